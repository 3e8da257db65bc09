"""The readings of a scan, and what is done to them before there is an image."""
