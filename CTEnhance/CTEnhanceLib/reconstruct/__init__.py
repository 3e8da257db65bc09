"""CT Reconstruct's own."""
