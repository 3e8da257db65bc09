"""Decomposition of images at two or more energies: what clinics hold in place of a detector's counts."""

from __future__ import annotations

from ctenhance.decomposition.from_images.attenuation import Spectra, read_table
from ctenhance.decomposition.from_images.estimate import ImageDecomposer
from ctenhance.decomposition.from_images.inference import decompose_images
from ctenhance.decomposition.from_images.options import ImageDecomposeOptions

__all__ = ["ImageDecomposeOptions", "ImageDecomposer", "Spectra", "decompose_images", "read_table"]
