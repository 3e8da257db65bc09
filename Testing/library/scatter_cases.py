"""A beam, a fan and a scanned cylinder for the tests of scatter."""

from __future__ import annotations

import math
from functools import cache

import torch
from decompose_cases import ENERGIES, THRESHOLDS, toy_detector

from ctenhance.decomposition.phantom import rod_phantom
from ctenhance.decomposition.scatter.physics import physical_scatter, spr_behind_middle, water_cylinder
from ctenhance.decomposition.solver.beam import Beam, expected_counts
from ctenhance.physics.geometry import EQUIANGULAR, FanGeometry, even_angles
from ctenhance.physics.spectrum import tube_spectrum


def beam(quanta: float = 1e6, thresholds: torch.Tensor = THRESHOLDS) -> Beam:
    spectrum = tube_spectrum(120, energies_kev=ENERGIES)
    return Beam(spectrum * (quanta / spectrum.sum()), toy_detector(), thresholds, 120)


def fan(views: int = 72, columns: int = 96) -> FanGeometry:
    pitch = 2 * math.asin(200 / 570) / columns
    middle = (columns - 1) / 2
    return FanGeometry(EQUIANGULAR, 570.0, 1040.0, pitch, columns, middle, even_angles(views))


@cache
def cylinder_scan():
    """A cylinder with rods by the toy beam: phantom, geometry, primary counts and scatter of ratio 0.15."""
    phantom = rod_phantom(64, 300.0, [{"iodine": 5.0}, {"iodine": 10.0}, {"calcium": 200.0}], rod_mm=40.0)
    geometry = fan()
    primary = expected_counts(phantom, geometry, beam().spectra(), ENERGIES)[0]
    scatter = physical_scatter(phantom, geometry, beam())[0]
    return phantom, geometry, primary, scatter * (0.15 / spr_behind_middle(scatter, primary))


def water_spr(geometry: FanGeometry, phantom, scatter_of_phantom: torch.Tensor) -> float:
    """What scatter the same scanner makes behind 300 mm of water."""
    own = physical_scatter(phantom, geometry, beam())[0]
    water, across = water_cylinder(geometry)
    counts = expected_counts(water, across, beam().spectra(), ENERGIES)
    unit = float(scatter_of_phantom.sum() / own.sum())
    return unit * spr_behind_middle(physical_scatter(water, across, beam()), counts)
