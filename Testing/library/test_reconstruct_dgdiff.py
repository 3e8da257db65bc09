"""DGDiff: noise matching, guidance, steps, and the start from the enhancing network's weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ctenhance.reconstruction import dgdiff
from ctenhance.reconstruction.networks import IMAGE_CHANNELS, DoublyGuided
from ctenhance.runtime.errors import InputError

SMALL = [4, 4, 4, 4, 4, 4]


class Told(nn.Module):
    """A network that knows the truth."""

    def __init__(self, truth: torch.Tensor) -> None:
        super().__init__()
        self.truth = truth
        self.levels: list[float] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.levels.append(float((x[:, 8] / x[:, 7]).mean()))
        return self.truth


class Trusting(nn.Module):
    """A network that gives its guide r back."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, 1:2]


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_noise_is_measured_where_it_is() -> None:
    initial = torch.zeros(1, 1, 128, 128)
    low = draw(1, 1, 128, 128) * torch.where(torch.arange(128) < 64, 0.02, 0.1)
    level = dgdiff.noise_level(low, initial)
    assert float(level[..., 8:48].mean()) == pytest.approx(0.02, rel=0.1)
    assert float(level[..., 80:120].mean()) == pytest.approx(0.1, rel=0.1)


def test_noise_has_bounds() -> None:
    same = torch.zeros(1, 1, 32, 32)
    assert torch.equal(dgdiff.noise_level(same, same), torch.full_like(same, dgdiff.LEAST_NOISE))
    assert float(dgdiff.noise_level(same + 9, same).max()) == dgdiff.GREATEST_NOISE


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_steps_go_down_to_what_the_network_says(steps: int) -> None:
    truth = draw(2, 1, 32, 32) * 0.1
    network = Told(truth)
    guides = truth.expand(2, 3, 32, 32) + 0.02 * draw(2, 3, 32, 32, seed=1)
    low = truth.expand(2, 3, 32, 32) + 0.05 * draw(2, 3, 32, 32, seed=2)
    calls = []
    image = dgdiff.sample(
        network, guides, low, steps, draw(steps, 2, 1, 32, 32, seed=3), lambda: calls.append(1)
    )
    assert torch.allclose(image, truth, atol=1e-6)
    assert len(calls) == steps
    assert network.levels == pytest.approx([(steps - k) / steps for k in range(steps)], rel=1e-4)


def test_what_lies_beyond_the_range_is_carried_over() -> None:
    initial = torch.zeros(1, 3, 32, 32)
    initial[..., 4, 4], initial[..., 9, 9] = 7.0, -3.0
    image = dgdiff.sample(Trusting(), initial, initial, 1, draw(1, 1, 1, 32, 32))
    assert torch.equal(image, initial[:, 1:2])


def test_the_same_noise_gives_the_same_image() -> None:
    torch.manual_seed(0)  # so few features may all be off by chance, and the image heeds nothing then
    network = DoublyGuided(SMALL).eval()
    initial, low, noise = draw(1, 3, 40, 56), draw(1, 3, 40, 56, seed=1), draw(2, 1, 1, 40, 56, seed=2)
    with torch.no_grad():
        first, again = (dgdiff.sample(network, initial, low, 2, noise) for _ in range(2))
        other = dgdiff.sample(network, initial, low, 2, noise.flip(-1))
    assert torch.equal(first, again)
    assert first.shape == (1, 1, 40, 56)
    assert not torch.equal(first, other)


def test_starts_from_the_enhancing_network() -> None:
    network = DoublyGuided(SMALL)
    inputs = torch.nn.Conv2d(12, 4, 3).weight
    tensors = {}
    for name, value in network.state_dict().items():
        fits = value.dim() == 4 and value.shape[1] == 4 * IMAGE_CHANNELS
        tensors[name] = torch.full_like(inputs, 0.02) if fits else torch.randn_like(value) * 0.1
    dgdiff.start_from_enhancer(network, tensors)
    x = draw(1, IMAGE_CHANNELS, 32, 32)
    elsewhere = x.clone()
    elsewhere[:, 3:] = 0
    with torch.no_grad():
        assert torch.equal(network(x), network(elsewhere))  # only the guide r counts at first
        assert not torch.equal(network(x), x[:, 1:2])


def test_refuses_other_weights_to_start_from() -> None:
    with pytest.raises(InputError, match="do not fit"):
        dgdiff.start_from_enhancer(DoublyGuided(SMALL), {"body.nothing": torch.zeros(3)})


class Sloped(nn.Module):
    """Says the middle slice of r, with an error that grows to the right."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, 1:2] + torch.linspace(-1, 1, x.shape[-1])


def test_errors_that_turn_with_the_image_cancel() -> None:
    low, initial = draw(1, 3, 20, 20, seed=1), draw(1, 3, 20, 20, seed=2)
    noise = torch.zeros((dgdiff.TURNS, 1, 1, 20, 20))
    one = dgdiff.sample(Sloped(), initial, low, 1, noise[:1])
    mean = dgdiff.expect(Sloped(), initial, low, noise)
    assert float((one - initial[:, 1:2]).abs().max()) > 0.9
    assert torch.allclose(mean, initial[:, 1:2], atol=1e-5)
    oblong = dgdiff.expect(Sloped(), initial[..., :12], low[..., :12], noise[..., :12])
    assert oblong.shape == (1, 1, 20, 12)
