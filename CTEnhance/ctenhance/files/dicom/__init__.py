"""DICOM images, in and out."""
