"""What the user measures: regions in the views and their statistics."""
