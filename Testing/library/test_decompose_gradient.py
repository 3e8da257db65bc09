"""The implicit gradient against finite differences of the full solve, and gradcheck."""

from __future__ import annotations

import pytest
import torch
from decompose_cases import THRESHOLDS, beam, decomposer, toy_detector

TIGHT = 1e-11


def noisy_case(materials=("water", "iodine")):
    d = decomposer(materials)
    truth = torch.tensor([[25.0, 0.08, 0.05], [12.0, 0.02, 0.1], [20.0, 0.15, 0.03]], dtype=torch.float64)
    truth = truth[:, : len(materials)]
    counts = torch.poisson(d.expected(truth), generator=torch.Generator().manual_seed(11))
    return d, counts


def central(function, at: torch.Tensor, step: float) -> torch.Tensor:
    """Fourth-order central differences of a function's value with respect to each entry of `at`."""
    columns = []
    for index in range(at.numel()):
        unit = torch.zeros_like(at).flatten()
        unit[index] = step
        unit = unit.view_as(at)
        near = function(at + unit) - function(at - unit)
        far = function(at + 2 * unit) - function(at - 2 * unit)
        columns.append((8 * near - far) / (12 * step))
    return torch.stack(columns, -1)


def jacobian(function, at: torch.Tensor) -> torch.Tensor:
    """Derivatives [output..., entry] by autograd."""
    at = at.clone().requires_grad_()
    value = function(at)
    rows = [torch.autograd.grad(v, at, retain_graph=True)[0].flatten() for v in value.flatten()]
    return torch.stack(rows).view(*value.shape, -1)


def assert_same(mine: torch.Tensor, reference: torch.Tensor) -> None:
    """Equal to 1e-6 of the largest derivative of each output."""
    scale = reference.abs().amax(-1, keepdim=True)
    assert float(((mine - reference).abs() / scale).max()) < 1e-6


@pytest.mark.parametrize("materials", [("water", "iodine"), ("water", "iodine", "gadolinium")])
def test_counts_thresholds_spectrum_and_scatter(materials) -> None:
    d, counts = noisy_case(materials)
    detector = toy_detector()

    def by_counts(n):
        return d(n, tolerance=TIGHT)

    def by_thresholds(t):
        return d(counts, detector.effective_spectra(beam(), t), tolerance=TIGHT)

    def by_scatter(s):
        return d(counts, scatter=s, tolerance=TIGHT)

    def by_fluence(scale):
        return d(counts, d.spectra * scale[:, None], tolerance=TIGHT)

    for function, at, step in (
        (by_counts, counts, 0.05),
        (by_thresholds, THRESHOLDS, 0.002),
        (by_scatter, 0.05 * counts, 0.05),
        (by_fluence, torch.ones(5, dtype=torch.float64), 2e-4),
    ):
        assert_same(jacobian(function, at), central(function, at, step))


def test_gradcheck_with_a_spectrum_for_each_channel() -> None:
    d, counts = noisy_case()
    detector = toy_detector()
    counts = counts.reshape(1, 3, 5) / 1e3  # thousands of counts: gradcheck's steps are absolute

    def solve(scaled, thresholds):
        return d(scaled * 1e3, detector.effective_spectra(beam(), thresholds), tolerance=TIGHT) * 10

    thresholds = (THRESHOLDS + torch.tensor([[0.0], [0.4], [-0.3]])).requires_grad_()
    assert torch.autograd.gradcheck(
        solve, (counts.clone().requires_grad_(), thresholds), eps=1e-5, atol=1e-5, rtol=1e-5
    )


def test_rays_at_a_limit_give_no_gradient() -> None:
    d = decomposer()
    counts = torch.tensor([[9e4] * 5, [3000.0] * 5], dtype=torch.float64, requires_grad=True)
    d(counts).sum().backward()
    assert bool((counts.grad[0] == 0).all())
    assert bool((counts.grad[1] != 0).all())


def test_the_gradient_keeps_float32_and_memory() -> None:
    d, counts = noisy_case()
    n = counts.float().requires_grad_()
    lines = d(n)
    assert lines.dtype == torch.float32
    # what is kept for the gradient: counts, weights, lines, status, whatever the number of steps
    node = lines.grad_fn
    while "Implicit" not in type(node).__name__:
        node = node.next_functions[0][0]
    kept = sum(t.numel() for t in node.saved_tensors if t is not None)
    assert kept <= 3 * (5 + 2 + 1) + d.weights.numel()
    lines.sum().backward()
    assert n.grad is not None and n.grad.dtype == torch.float32
