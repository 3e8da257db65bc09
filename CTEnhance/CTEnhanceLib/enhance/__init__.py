"""CT Enhance's own."""
