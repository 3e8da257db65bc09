"""The compiled solver against torch's: the same maximum, the same ends."""

from __future__ import annotations

import pytest
import torch
from decompose_cases import ENERGIES, THRESHOLDS, beam, decomposer, toy_detector

from ctenhance.decomposition.solver import layer
from ctenhance.decomposition.solver.compiled import MANY_RAYS
from ctenhance.decomposition.solver.layer import Decomposer
from ctenhance.decomposition.solver.newton import AT_LIMIT, CONVERGED, STARVED
from ctenhance.runtime.errors import Cancelled
from ctenhance.runtime.progress import CancelToken

MOST = [30.0, 0.2, 0.05]


@pytest.fixture(autouse=True)
def numba_is_there() -> None:
    pytest.importorskip("numba")


def both_ways(d: Decomposer, counts: torch.Tensor, **options):
    """The estimate by torch and by the compiled solver."""
    plain = d.estimate(counts, **options)
    d.compiled = True
    fused = d.estimate(counts, **options)
    d.compiled = False
    return plain, fused


def drawn(d: Decomposer, n: int, scatter: torch.Tensor | None = None, seed: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    k = len(d.materials)
    lines = torch.rand(n, k, generator=generator, dtype=torch.float64) * torch.tensor(MOST[:k])
    expected = d.expected(lines, exact=True)
    return torch.poisson(expected if scatter is None else expected + scatter, generator=generator)


@pytest.mark.parametrize("materials", [["water"], ["water", "iodine"], ["water", "iodine", "gadolinium"]])
@pytest.mark.parametrize("scattered", [False, True])
def test_both_end_at_the_same_maximum(materials: list[str], scattered: bool) -> None:
    d = decomposer(materials)
    air = d.expected(torch.zeros(1, len(materials), dtype=torch.float64))
    scatter = (0.002 * air).expand(5000, -1) if scattered else None
    counts = drawn(d, 5000, scatter)
    plain, fused = both_ways(d, counts, scatter=scatter, tolerance=1e-10)
    assert float((plain.status != fused.status).double().mean()) < 2e-3
    sound = (plain.status == CONVERGED) & (fused.status == CONVERGED)
    assert float(sound.double().mean()) > 0.5
    away = (plain.lines - fused.lines)[sound].abs()
    errors = d.standard_errors(plain.lines, scatter)[sound]
    # 1e-9 g/cm², or of a standard error, where three materials are all but degenerate
    assert float((away / errors.clamp(min=1.0)).max()) < 1e-9


def test_less_than_the_tolerance_is_left_to_go() -> None:
    d = decomposer()
    counts = drawn(d, 5000)
    plain, fused = both_ways(d, counts)
    end = d.estimate(counts, tolerance=1e-10)
    errors = d.standard_errors(end.lines)
    left = [float(((found.lines - end.lines) / errors).abs().max()) for found in (plain, fused)]
    assert max(left) < 1e-4
    assert left[1] < 2e-5  # it goes on further


def test_the_bias_that_is_taken_off_is_the_same() -> None:
    plain_beam = decomposer()
    d = Decomposer(("water", "iodine"), plain_beam.spectra * 0.02, ENERGIES)
    counts = drawn(d, 3000)
    without, with_it = (both_ways(d, counts, tolerance=1e-9, correct_bias=on) for on in (False, True))
    bias = [(a.lines - b.lines) for a, b in zip(without, with_it, strict=True)]
    sound = without[0].status == CONVERGED
    assert float(bias[0][sound].abs().max()) > 0.01
    # torch computes it in float32
    torch.testing.assert_close(bias[1][sound], bias[0][sound], rtol=2e-3, atol=1e-6)


def test_channels_with_their_own_thresholds_and_a_table_each() -> None:
    shifts = torch.tensor([[0.0], [0.8], [-0.6]], dtype=torch.float64)
    d = Decomposer(
        ("water", "iodine"), toy_detector().effective_spectra(beam(), THRESHOLDS + shifts), ENERGIES
    )
    lines = torch.rand(200, 3, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    counts = d.expected(lines * torch.tensor(MOST[:2]), exact=True)
    plain, fused = both_ways(d, counts, tolerance=1e-10)
    torch.testing.assert_close(fused.lines, plain.lines, rtol=0, atol=1e-9)
    assert torch.equal(plain.status, fused.status)


def test_odd_rays_end_alike() -> None:
    d = decomposer()
    counts = torch.tensor(
        [
            [0, 0, 0, 0, 0],
            [1, 0, 0, 2, 0],
            [0, 0, 40, 90, 60],
            [-3, 0, 40, 90, 60],
            [90000, 90000, 90000, 90000, 90000],
            [400] * 5,
            [1e30] * 5,
        ],
        dtype=torch.float32,
    )
    plain, fused = both_ways(d, counts)
    assert fused.status[:2].tolist() == [STARVED, STARVED]
    assert int(fused.status[4]) == AT_LIMIT
    assert torch.equal(plain.status, fused.status)
    assert bool(torch.isfinite(fused.lines).all())
    errors = d.standard_errors(plain.lines)
    assert float(((plain.lines - fused.lines) / errors)[2:4].abs().max()) < 1e-3
    torch.testing.assert_close(fused.lines[2], fused.lines[3])  # less than nothing is nothing


def test_low_flux_rays_end_alike() -> None:
    whole = decomposer()
    d = Decomposer(("water", "iodine"), whole.spectra / 50, ENERGIES)
    plain, fused = both_ways(d, drawn(d, 4000, seed=6), correct_bias=True)
    assert float((plain.status != fused.status).double().mean()) < 2e-3
    assert bool(torch.isfinite(fused.lines).all())


def test_how_rays_are_batched_changes_less_than_the_tolerance() -> None:
    d = decomposer()
    d.compiled = True
    counts = drawn(d, 20000)
    whole = d.estimate(counts, correct_bias=True)
    parts = torch.cat([d.estimate(part, correct_bias=True).lines for part in counts.split(777)])
    assert float(((whole.lines - parts) / d.standard_errors(whole.lines)).abs().max()) < 1e-4
    assert torch.equal(whole.lines, d.estimate(counts, correct_bias=True).lines)


def test_three_materials_that_are_all_but_degenerate_keep_a_sound_bias() -> None:
    """The series in 1 / counts is worth nothing where it says more than the noise: it once took hundreds of
    g/cm² off such rays."""
    d = decomposer(["water", "iodine", "gadolinium"])
    found = both_ways(d, drawn(d, 4000), correct_bias=True)
    plain = d.estimate(drawn(d, 4000))
    errors = d.standard_errors(plain.lines)
    for one in found:
        sound = (one.status == CONVERGED) & (plain.status == CONVERGED)
        assert float(((one.lines - plain.lines) / errors)[sound].abs().max()) < 1.01


def test_it_is_for_many_rays_only(monkeypatch: pytest.MonkeyPatch) -> None:
    d = decomposer()
    assert not d.prepare(MANY_RAYS - 1).compiled
    assert d.solver == "torch"
    assert d.prepare(MANY_RAYS).compiled
    assert d.solver.startswith("numba ")
    monkeypatch.setattr(layer, "installed", lambda: False)
    assert not d.prepare(MANY_RAYS).compiled


def test_it_can_be_cancelled() -> None:
    token = CancelToken()
    token.cancel()
    d = decomposer()
    d.compiled = True
    with pytest.raises(Cancelled):
        d.estimate(torch.full((10, 5), 1000.0), cancel=token)
