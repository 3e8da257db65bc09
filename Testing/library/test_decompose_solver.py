"""The maximum-likelihood estimate: exact without noise, unbiased and at the Cramér-Rao bound with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from decompose_cases import ENERGIES, THRESHOLDS, PublishedBeam, beam, decomposer, toy_detector

from ctenhance.decomposition.solver.layer import Decomposer
from ctenhance.decomposition.solver.newton import AT_LIMIT, CONVERGED, NOT_CONVERGED, RAYS_PER_CHUNK, STARVED
from ctenhance.physics.detector import ideal_detector
from ctenhance.runtime.errors import Cancelled, InputError
from ctenhance.runtime.progress import CancelToken


def random_lines(n: int, most: list[float], seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, len(most), generator=generator, dtype=torch.float64) * torch.tensor(most)


@pytest.mark.parametrize(
    ("materials", "most"),
    [
        (["water"], [40.0]),
        (["water", "iodine"], [35.0, 0.3]),
        (["water", "calcium"], [30.0, 3.0]),
        (["water", "iodine", "gadolinium"], [25.0, 0.1, 0.1]),
    ],
)
def test_noise_free_counts_give_back_the_lines(materials: list[str], most: list[float]) -> None:
    d = decomposer(materials)
    lines = random_lines(3000, most)
    found = d.estimate(d.expected(lines, exact=True))
    assert bool((found.status == CONVERGED).all())
    # in units of what noise does: the quadrature's 1e-6 is far below 1e-3 of a standard error
    assert float(((found.lines - lines) / d.standard_errors(lines)).abs().max()) < 2e-3
    nodes_only = d.estimate(d.expected(lines), tolerance=1e-9)
    torch.testing.assert_close(nodes_only.lines, lines, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("third", ["calcium", "bone"])
def test_three_materials_in_a_detector_whose_lowest_bin_goes_dark(third: str) -> None:
    """An ideal detector's lowest bin counts nothing behind the most calcium and iodine."""
    spectra = ideal_detector(ENERGIES).effective_spectra(beam(), THRESHOLDS)
    d = Decomposer(["water", "iodine", third], spectra, ENERGIES)
    lines = random_lines(2000, [25.0, 0.05, 1.0])
    found = d.estimate(d.expected(lines, exact=True))
    assert bool((found.status == CONVERGED).all())
    assert float(((found.lines - lines) / d.standard_errors(lines)).abs().max()) < 2e-3


def test_the_quadrature_keeps_its_error_on_rays_it_has_not_seen() -> None:
    d = decomposer()
    lines = random_lines(4000, [40.0, 0.4], seed=9)
    exact, quick = d.expected(lines, exact=True), d.expected(lines)
    assert d.quadrature.error <= 1e-6
    assert d.quadrature.n_nodes < 40
    floor = 1e-7 * d.expected(torch.zeros(1, 2, dtype=torch.float64), exact=True)
    assert float(((quick - exact).abs() / (exact + floor)).max()) < 2e-6


@pytest.mark.parametrize(("water", "iodine"), [(15.0, 0.05), (25.0, 0.10), (30.0, 0.10)])
def test_bias_and_variance_meet_the_bound_on_published_counts(
    shared_data: Path, water: float, iodine: float
) -> None:
    published = PublishedBeam(shared_data, quanta=5e5)
    d = published.decomposer()
    expected = published.counts(water, iodine)
    clean = d.estimate(torch.from_numpy(expected))
    assert clean.lines.tolist() == pytest.approx([water, iodine], rel=1e-4)
    noisy = np.random.default_rng(3).poisson(expected, (60000, len(expected)))
    found = d.estimate(torch.from_numpy(noisy), correct_bias=True)
    assert bool((found.status == CONVERGED).all())
    errors = d.standard_errors(torch.tensor([water, iodine], dtype=torch.float64))
    truth = torch.tensor([water, iodine], dtype=torch.float64)
    bias = (found.lines.mean(0) / truth - 1).abs()
    assert bool((bias < 3e-3).all()), bias
    ratio = found.lines.var(0) / errors**2
    assert bool(((ratio - 1).abs() < 0.05).all()), ratio


def test_the_bound_is_met_on_own_counts_with_known_scatter() -> None:
    d = decomposer()
    truth = torch.tensor([20.0, 0.1], dtype=torch.float64)
    primary = d.expected(truth, exact=True)
    scatter = 0.2 * primary.mean() * torch.ones_like(primary)
    generator = torch.Generator().manual_seed(4)
    counts = torch.poisson((primary + scatter).expand(30000, -1), generator=generator)
    found = d.estimate(counts, scatter=scatter.expand(30000, -1), correct_bias=True)
    assert bool(((found.lines.mean(0) / truth - 1).abs() < 3e-3).all())
    ratio = found.lines.var(0) / d.standard_errors(truth, scatter) ** 2
    assert bool(((ratio - 1).abs() < 0.05).all()), ratio


def test_the_bias_at_low_counts_is_taken_off() -> None:
    d = decomposer()
    truth = torch.tensor([30.0, 0.1], dtype=torch.float64)
    counts = torch.poisson(d.expected(truth).expand(60000, -1), generator=torch.Generator().manual_seed(8))
    plain, corrected = (d.estimate(counts, correct_bias=on).lines.mean(0) - truth for on in (False, True))
    noise = d.standard_errors(truth) / 60000**0.5
    assert float((plain / noise).abs().max()) > 6
    assert float((corrected / noise).abs().max()) < 4


def test_the_estimate_is_that_of_scipy() -> None:
    from scipy.optimize import minimize

    d = decomposer()
    truth = torch.tensor([[20.0, 0.1], [33.0, 0.02]], dtype=torch.float64)
    counts = torch.poisson(d.expected(truth), generator=torch.Generator().manual_seed(5))
    found = d.estimate(counts, tolerance=1e-8).lines.numpy()
    weights, mu = d.weights.numpy(), d.quadrature.attenuation.numpy()
    for n, mine in zip(counts.numpy(), found, strict=True):

        def cost(scaled, n=n):
            y = weights @ np.exp(-(np.array([scaled[0], scaled[1] / 20]) @ mu))
            return (y - n * np.log(y)).sum()

        best = minimize(
            cost, mine * [1, 20] + [0.3, 0.1], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-9}
        )
        assert mine[0] == pytest.approx(best.x[0], abs=2e-4)
        assert mine[1] == pytest.approx(best.x[1] / 20, abs=2e-5)


def test_starved_and_impossible_rays_are_flagged_and_finite() -> None:
    d = decomposer()
    counts = torch.tensor(
        [
            [0, 0, 0, 0, 0],
            [1, 0, 0, 2, 0],
            [0, 0, 40, 90, 60],
            [90000, 90000, 90000, 90000, 90000],
            [400] * 5,
        ],
        dtype=torch.float32,
    )
    found = d.estimate(counts)
    assert found.status[:2].tolist() == [STARVED, STARVED]
    assert int(found.status[3]) == AT_LIMIT  # more than in air
    assert int(found.status[4]) in (CONVERGED, AT_LIMIT)
    assert bool((found.status != NOT_CONVERGED).all())
    assert bool(torch.isfinite(found.lines).all())
    assert sum(v for k, v in found.summary().items() if k != "most_steps") == pytest.approx(1)


def test_low_flux_rays_all_end_somewhere() -> None:
    d = decomposer()
    lines = random_lines(4000, [50.0, 0.5], seed=2)
    counts = torch.poisson(d.expected(lines) / 50, generator=torch.Generator().manual_seed(6))
    d_low = Decomposer(("water", "iodine"), d.spectra / 50, ENERGIES)
    found = d_low.estimate(counts)
    assert float((found.status == NOT_CONVERGED).float().mean()) < 1e-3
    assert bool(torch.isfinite(found.lines).all())


def test_channels_with_their_own_thresholds() -> None:
    shifts = torch.tensor([[0.0], [0.8], [-0.6]], dtype=torch.float64)
    own = toy_detector().effective_spectra(beam(), THRESHOLDS + shifts)
    d = Decomposer(("water", "iodine"), own, ENERGIES)
    lines = random_lines(60, [30.0, 0.2]).reshape(20, 3, 2)
    counts = d.expected(lines, exact=True)
    assert counts.shape == (20, 3, 5)
    torch.testing.assert_close(d.estimate(counts).lines, lines, rtol=1e-4, atol=2e-5)
    # and one nominal set for all is wrong where thresholds moved
    nominal = decomposer().estimate(counts).lines
    assert float((nominal[:, 0] - lines[:, 0]).abs().max()) < 1e-3
    assert float((nominal[:, 1, 0] - lines[:, 1, 0]).abs().max()) > 0.01


def test_the_answer_does_not_depend_on_how_rays_are_batched() -> None:
    d = decomposer()
    counts = torch.poisson(
        d.expected(random_lines(5000, [30.0, 0.2])), generator=torch.Generator().manual_seed(7)
    )
    whole = d.estimate(counts).lines
    single = torch.cat([d.estimate(part).lines for part in counts.split(700)])
    assert float(((whole - single) / d.standard_errors(whole)).abs().max()) < 1e-3
    assert torch.equal(whole, d.estimate(counts).lines)


@pytest.mark.parametrize("quanta", [1.0, 0.02])
@pytest.mark.parametrize(
    ("materials", "most"),
    # three materials are all but degenerate where quanta are few: damped steps end a little earlier
    [(["water", "iodine"], 1e-4), (["water", "iodine", "gadolinium"], 1e-3)],
)
def test_less_than_the_tolerance_is_left_to_go(materials: list[str], most: float, quanta: float) -> None:
    plain = decomposer(materials)
    d = Decomposer(materials, plain.spectra * quanta, ENERGIES)
    lines = random_lines(3000, [30.0, 0.2, 0.05][: len(materials)], seed=3)
    counts = torch.poisson(d.expected(lines), generator=torch.Generator().manual_seed(4))
    found, end = d.estimate(counts), d.estimate(counts, tolerance=1e-10)
    both = (found.status == CONVERGED) & (end.status == CONVERGED)
    assert float(both.double().mean()) > 0.4  # three materials, or few quanta, often end at a limit
    assert float((found.status != end.status).double().mean()) < 2e-3
    left = ((found.lines - end.lines) / d.standard_errors(end.lines))[both].abs()
    assert float(left.max()) < most


def test_the_start_is_within_the_noise() -> None:
    d = decomposer()
    lines = random_lines(4000, [35.0, 0.2])
    first = d.start(d.expected(lines).T[None], d.weights[None].sum(-1, keepdim=True))[0].T
    assert float(((first - lines) / d.standard_errors(lines)).abs().quantile(0.9)) < 1.5


@pytest.fixture
def two_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def test_threads_change_nothing(two_threads: None) -> None:
    d = decomposer()
    lines = random_lines(3 * RAYS_PER_CHUNK["cpu"], [30.0, 0.2])
    counts = torch.poisson(d.expected(lines), generator=torch.Generator().manual_seed(7))
    both = d.estimate(counts, correct_bias=True).lines
    assert torch.get_num_threads() == 2
    # with a gradient asked for as well: grad mode belongs to a thread
    asked = counts.clone().requires_grad_()
    tracked = d(asked)
    torch.set_num_threads(1)
    assert torch.equal(both, d.estimate(counts, correct_bias=True).lines)
    assert torch.equal(tracked, d(counts))


def test_cancelling_stops_the_threads(two_threads: None) -> None:
    token, seen = CancelToken(), []

    def progress(stage: str, done: int, total: int) -> None:
        seen.append(done)
        token.cancel()

    d = decomposer()
    with pytest.raises(Cancelled):
        d.estimate(torch.full((40 * RAYS_PER_CHUNK["cpu"], 5), 1000.0), progress=progress, cancel=token)
    assert len(seen) < 40
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: decomposer(["water", "water"]), "different basis materials"),
        (lambda: decomposer(["water", "iodine", "calcium", "gadolinium"]), "one to 3"),
        (lambda: decomposer(thresholds=torch.tensor([20.0, 120.0])), "1 energy bins cannot tell 2"),
        (lambda: decomposer(["water", "water2=H2O@1.0"]), "apart"),
        (lambda: decomposer(thresholds=torch.tensor([20.0, 60.0, 126.0, 150.0])), "counts nothing"),
        (lambda: Decomposer(["water"], torch.ones(3, 5), ENERGIES), "120 energies"),
        (lambda: decomposer().estimate(torch.ones(4, 3)), "have 3 bins but the effective spectra 5"),
        (lambda: decomposer().estimate(torch.full((1, 5), float("nan"))), "no numbers"),
    ],
)
def test_refusals(make, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_cancelling_stops_it() -> None:
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        decomposer().estimate(torch.full((10, 5), 1000.0), cancel=token)
