"""CT Decompose's own."""
