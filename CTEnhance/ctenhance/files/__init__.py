"""Every file format, in and out; readers return objects of `core` and `scan`."""
