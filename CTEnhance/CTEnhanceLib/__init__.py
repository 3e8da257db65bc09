"""What CTEnhance's Slicer modules share. Nothing here computes: `ctenhance` does, in a process of its own."""
