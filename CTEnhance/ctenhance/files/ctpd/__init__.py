"""DICOM-CT-PD: projections as scanners hand them to researchers."""
