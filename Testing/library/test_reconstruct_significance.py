"""What is put back of a denoised sinogram: what was no noise, and next to nothing of what was."""

from __future__ import annotations

import pytest
import torch

from ctenhance.reconstruction.significance import noise_energies, put_back, significant
from ctenhance.reconstruction.smoothing import mean_nearby

VIEWS, COLUMNS = 240, 300


def noise(seed: int = 0, views: int = VIEWS, columns: int = COLUMNS) -> torch.Tensor:
    return torch.randn((1, views, columns), generator=torch.Generator().manual_seed(seed))


def edge() -> torch.Tensor:
    """A thin trace through the sinogram, as that of a wire."""
    views = torch.arange(VIEWS)[:, None]
    place = 150 + 60 * torch.sin(views / 40)
    return torch.exp(-0.5 * (torch.arange(COLUMNS) - place).square())[None]


def test_shares_of_the_scales_are_those_of_white_noise() -> None:
    first, *_, rest = noise_energies()
    z = noise(views=600, columns=600)
    smooth = torch.nn.functional.conv2d(
        z[:, None], torch.outer(*(torch.tensor([1.0, 4, 6, 4, 1]) / 16,) * 2)[None, None], padding=2
    )
    inside = (slice(None), slice(None), slice(8, -8), slice(8, -8))
    assert float((z[:, None] - smooth)[inside].square().mean()) == pytest.approx(first, rel=0.01)
    assert 0 < rest < 0.01 and sum(noise_energies()) < 1


@pytest.mark.parametrize("size", [(VIEWS, COLUMNS), (16, 16), (3, 40)])
def test_next_to_nothing_of_noise_is_put_back(size: tuple[int, int]) -> None:
    z = noise(1, *size)
    back = significant(z)
    assert back.shape == z.shape and bool(torch.isfinite(back).all())
    if size[0] > 100:
        assert float(back.square().mean()) < 0.01


def test_noise_that_is_larger_or_not_white_stays_away_too() -> None:
    assert float(significant(3 * noise(2)).square().mean()) < 9 * 0.01
    along_columns = noise(3)
    along_columns = (along_columns + along_columns.roll(1, -1)) / 2**0.5
    assert float(significant(along_columns).square().mean()) < 0.02


def test_a_trace_in_the_noise_comes_back() -> None:
    trace = 5 * edge()
    back = significant(noise(4) + trace)
    on = trace[0] > 2
    assert float((back - trace)[0][on].square().mean()) < 0.3 * float(trace[0][on].square().mean())
    assert float(back[0][trace[0] < 1e-3].square().mean()) < 0.05


@pytest.mark.parametrize("electronic", [0.0, 10.0])
def test_blurred_line_integrals_become_those_that_were_measured(electronic: float) -> None:
    smooth = 3 + torch.zeros((1, VIEWS, COLUMNS))
    truth, air = smooth + 0.3 * edge(), torch.full((COLUMNS,), 1e5)
    detected = torch.poisson(air * torch.exp(-truth), generator=torch.Generator().manual_seed(5))
    detected += electronic**0.5 * noise(6)
    found = put_back(smooth, detected, air, torch.full((1, 1, 1), electronic))
    assert float((found - truth).square().mean()) < 0.25 * float((smooth - truth).square().mean())


def test_rays_without_light_stay_finite() -> None:
    dark = torch.full((1, 32, 32), 14.0)
    found = put_back(dark, -20 * torch.ones_like(dark), torch.full((32,), 5e3), torch.full((1, 1, 1), 10.0))
    assert bool(torch.isfinite(found).all()) and float((found - dark).abs().max()) <= 0.7


@pytest.mark.parametrize("side", [1, 9, 37])
def test_the_mean_nearby_is_that_of_the_readings_there(side: int) -> None:
    x = torch.rand(2, 1, 40, 53, generator=torch.Generator().manual_seed(0))
    x[0, 0, 20, 5] = 1e9  # a dead detector element must not harm the others, nor the sums their means
    half, found = side // 2, mean_nearby(x, side)
    for row, column in ((0, 0), (39, 52), (3, 50), (21, 30), (10, 45)):
        window = x[
            ..., max(0, row - half) : row + half + 1, max(0, column - half) : column + half + 1
        ].double()
        assert torch.allclose(found[..., row, column].double(), window.mean((-2, -1)), rtol=1e-5)
