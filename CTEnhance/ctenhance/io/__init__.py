"""Files of projections: `ctproj.h5`, DICOM-CT-PD, helical scans as fan slices, and projections of volumes."""

from __future__ import annotations
