"""A DICOM node: receives series, runs a verb on each, and sends what comes of it on."""
