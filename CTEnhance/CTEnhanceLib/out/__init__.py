"""What leaves Slicer: DICOM series, pictures and films of the views, a page."""
