"""Scatter by physics: against tables, its convergence, and what a usual scanner has of a seen object."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from decompose_cases import ENERGIES
from scatter_cases import beam, cylinder_scan, fan

from ctenhance.decomposition.scatter.network import CoarseModel
from ctenhance.decomposition.scatter.physics import (
    Quanta,
    Sampling,
    ScatterSetup,
    cross_section,
    physical_scatter,
    spr_behind_middle,
    water_cylinder,
)
from ctenhance.decomposition.scatter.reference import REFERENCE_SETUP
from ctenhance.decomposition.solver.beam import expected_counts
from ctenhance.physics.geometry import ParallelGeometry, even_angles
from ctenhance.physics.materials import material
from ctenhance.physics.noise import bowtie_fluence


@pytest.mark.parametrize("kev", [40.0, 60.0, 100.0])
def test_cross_sections_add_up_to_tabulated_attenuation(kev: float) -> None:
    cosine = torch.cos((torch.arange(20000, dtype=torch.float64) + 0.5) / 20000 * math.pi)
    sine = (1 - cosine**2).sqrt() * math.pi / 20000
    compton, coherent = cross_section(torch.tensor(kev, dtype=torch.float64), cosine)
    # half the classical electron radius squared, and water's molecules a gram
    unit = 2 * math.pi * 0.5 * (2.8179403e-13) ** 2 * 6.02214e23 / 18.015
    energy = torch.tensor([kev])
    for found, kind, tolerance in ((compton, "incoh", 0.04), (coherent, "coh", 0.06)):
        known = float(material("water").mass_attenuation(energy, kind))
        assert float((found * sine).sum()) * unit == pytest.approx(known, rel=tolerance)


def test_scatter_of_a_cylinder_is_the_same_in_all_views_and_on_both_sides() -> None:
    phantom, _ = water_cylinder(fan())
    geometry = fan(views=8)
    scatter = physical_scatter(phantom, geometry, beam(), ScatterSetup(grid_ratio=4.0))[0]
    assert float((scatter - scatter.flip(1)).abs().max()) < 0.03 * float(scatter.max())
    assert float((scatter - scatter.mean(0)).abs().max()) < 0.06 * float(scatter.max())
    # smooth: most of it is in the lowest frequencies along the detector
    power = torch.fft.rfft(scatter[0].sum(-1)).abs() ** 2
    assert float(power[12:].sum() / power[1:].sum()) < 0.01


@pytest.mark.parametrize("views", [1, 72])
def test_scatter_has_converged_in_amount_and_from_bin_to_bin(views: int) -> None:
    phantom, geometry, _, _ = cylinder_scan()
    geometry = replace(geometry, view_angles=even_angles(views))
    finer = Sampling(views=48, columns=60, element_mm=9.0, steps=32, groups=30)
    coarse, fine = (
        physical_scatter(phantom, geometry, beam(), sampling=sampling)[0] for sampling in (Sampling(), finer)
    )
    off = (coarse / fine).log()[:, 12:84]
    assert float(off.std()) < 0.04 and abs(float(off.mean())) < 0.04
    assert float((off - off.mean(-1, keepdim=True)).std()) < 0.008


def test_scatter_is_the_same_on_a_coarser_grid_of_energies() -> None:
    phantom, geometry, _, _ = cylinder_scan()
    geometry = geometry.with_views((0.0,))
    spectra = beam().spectra()
    coarser = spectra.unflatten(-1, (-1, 2)).sum(-1), ENERGIES.unflatten(0, (-1, 2)).mean(-1)
    fine, coarse = (
        physical_scatter(phantom, geometry, Quanta.counted_once(*beam_of))[0]
        for beam_of in ((spectra, ENERGIES), coarser)
    )
    assert float((coarse / fine - 1).abs()[:, 12:84].max()) < 0.05


def test_scatter_grows_with_the_object_and_is_none_without() -> None:
    geometry = fan()
    phantom, _ = water_cylinder(geometry)
    seen = geometry.with_views((0.0,))
    primary = expected_counts(phantom, seen, beam().spectra(), ENERGIES)
    whole = spr_behind_middle(physical_scatter(phantom, seen, beam()), primary)
    small = replace(phantom, pixel_mm=0.5 * phantom.pixel_mm)
    half = spr_behind_middle(
        physical_scatter(small, seen, beam()), expected_counts(small, seen, beam().spectra(), ENERGIES)
    )
    assert half < 0.5 * whole
    nothing = replace(phantom, densities=torch.zeros_like(phantom.densities))
    assert float(physical_scatter(nothing, seen, beam()).abs().max()) == 0


@pytest.mark.parametrize("shape", ["fan", "bowtie", "parallel"])
def test_a_usual_scanner_s_scatter_is_known_from_the_counts(shape: str) -> None:
    phantom, geometry, _, _ = cylinder_scan()
    spectra = beam().spectra()
    if shape == "parallel":
        geometry = ParallelGeometry(90, 100, 4.0)
    primary = expected_counts(phantom, geometry, spectra, ENERGIES)[0]
    setup, model = REFERENCE_SETUP, CoarseModel(spectra, ENERGIES)
    if shape == "bowtie":
        fluence = bowtie_fluence(geometry, 0.7, 150.0)
        setup, model = replace(REFERENCE_SETUP, fluence=fluence), model.with_fluence(fluence)
        primary = primary * fluence[:, None]
    true = physical_scatter(phantom, geometry, beam(), setup)[0]
    water, across = water_cylinder(geometry)
    of_water = physical_scatter(water, across, beam(), REFERENCE_SETUP)
    unit = spr_behind_middle(of_water, expected_counts(water, across, spectra, ENERGIES))
    seen = model(primary, geometry, 1e-6)
    found = seen.reference * model.mean_air.sum()
    off = (found / (true * 1e-6 / unit)).log()[:, 20:76]
    assert float(off.abs().mean()) < 0.1
    assert float((off - off.mean(-1, keepdim=True)).std()) < 0.04


def test_a_known_grid_tells_where_scatter_goes() -> None:
    phantom, geometry, primary, _ = cylinder_scan()
    model = CoarseModel(beam().spectra(), ENERGIES)
    water, across = water_cylinder(geometry)
    counts = expected_counts(water, across, beam().spectra(), ENERGIES)
    for lamellae in (4.0, 16.0):
        setup = replace(REFERENCE_SETUP, grid_ratio=lamellae)
        true = physical_scatter(phantom, geometry, beam(), setup)[0]
        unit = spr_behind_middle(physical_scatter(water, across, beam(), setup), counts)
        off = []
        for told in (lamellae, None):
            seen = model(primary, geometry, 1e-6, told)
            found = seen.reference * model.mean_air.sum()
            off.append(float((found / (true * 1e-6 / unit)).log()[:, 20:76].std()))
        assert off[0] < 0.05 and off[0] < 0.75 * off[1]
