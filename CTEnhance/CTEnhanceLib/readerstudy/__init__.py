"""CT Reader Study's own."""
