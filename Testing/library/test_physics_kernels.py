"""Reconstruction kernels have the MTF they state, in line pairs per mm at the isocentre of any geometry."""

from __future__ import annotations

import math

import pytest
import torch

from ctenhance.physics.analytic import Ellipse, ellipse_sinogram
from ctenhance.physics.fbp import KERNEL_MTF, fbp, kernel_gain
from ctenhance.physics.geometry import FanGeometry, ParallelGeometry, ScanGeometry, even_angles
from ctenhance.physics.image_grid import ImageGrid

VIEWS = even_angles(240)
GRID = ImageGrid(120, 120, 0.2)
PITCH, SID, SDD = 0.25, 595.0, 1085.6
GEOMETRIES = {
    "flat": FanGeometry("flat", SID, SDD, PITCH * SDD / SID, 160, 79.5, VIEWS),
    "equiangular": FanGeometry("equiangular", SID, SDD, PITCH / SID, 160, 79.5, VIEWS),
    "parallel": ParallelGeometry(240, 160, PITCH, view_angles=VIEWS),
}


def wire_transfer(kernel: str, geometry: ScanGeometry, frequency: torch.Tensor) -> torch.Tensor:
    """MTF from the image of a thin wire beside the isocentre, less the known blur of wire and columns."""
    centre, radius = (0.31, -0.17), 0.1
    wire = Ellipse(1.0, (radius, radius), centre)
    image = fbp(ellipse_sinogram(geometry, [wire], 40).float(), geometry, GRID, kernel).double()
    x, y = GRID.x_mm()[None] - centre[0], GRID.y_mm()[:, None] - centre[1]
    near = x.square() + y.square() < 11**2
    phase = 2 * math.pi * torch.cat([torch.zeros(1), frequency])[:, None, None]
    spectrum = torch.stack(
        [
            ((image * near) * torch.cos(phase * (x * math.cos(a) + y * math.sin(a)))).sum((-1, -2))
            for a in torch.linspace(0, math.pi, 7)[:-1].tolist()
        ]
    ).mean(0)
    argument = 2 * math.pi * frequency * radius
    disc = 2 * torch.special.bessel_j1(argument) / argument
    return spectrum[1:] / spectrum[0] / disc / torch.sinc(frequency * PITCH)


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
@pytest.mark.parametrize("kernel", KERNEL_MTF)
def test_a_wire_shows_the_stated_resolution(kernel: str, geometry: ScanGeometry) -> None:
    half, tenth = KERNEL_MTF[kernel]
    found = wire_transfer(kernel, geometry, torch.tensor([half, tenth], dtype=torch.float64))
    assert float(found[0]) == pytest.approx(0.5, abs=0.03)
    assert float(found[1]) == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize("kernel", KERNEL_MTF)
def test_a_kernel_keeps_the_mean_and_falls(kernel: str) -> None:
    gain = kernel_gain(kernel, torch.linspace(0, 2, 201, dtype=torch.float64), 1.0)
    assert float(gain[0]) == 1
    assert bool((gain.diff() < 0).all())
    torch.testing.assert_close(gain, kernel_gain(kernel, torch.linspace(0, 2, 201).double(), 0.3))
