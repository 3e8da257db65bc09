"""The diffusion round the one-step network: its latents, its few steps, its pairs of draws."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from test_enhance import SMALL, enhancer_of, save_model, scan

import ctenhance
from ctenhance.core.volume import CTVolume
from ctenhance.enhancement import sampler
from ctenhance.enhancement.draws import Draws
from ctenhance.enhancement.networks import UNIT, ResidualDiffusion, build
from ctenhance.enhancement.pairs import neighbours
from ctenhance.enhancement.sampler import FITTED, Sampler, fitted
from ctenhance.enhancement.training import amplitude


def network() -> ResidualDiffusion:
    torch.manual_seed(0)
    made = build("residual-diffusion", SMALL["residual-diffusion"])
    assert isinstance(made, ResidualDiffusion)
    return made.eval()


def exact_velocity(power: torch.Tensor):  # type: ignore[no-untyped-def]
    """The velocity of the best network for Gaussian data of this power: the mean of what is asked for."""

    def velocity(z: torch.Tensor, angle: float) -> torch.Tensor:
        cos, sin = math.cos(angle), math.sin(angle)
        clean = power * cos / (power * cos**2 + sin**2) * z
        return (cos * z - clean) / sin

    return velocity


def kept(steps: Sampler) -> torch.Tensor:
    """What is kept of the power of Gaussian data, for powers from 0.02 to 4, with an exact network."""
    power = torch.logspace(math.log10(0.02), math.log10(4), 97, dtype=torch.float64).view(1, -1, 1, 1)
    return (steps.draw(exact_velocity(power), torch.ones_like(power)) ** 2 / power).flatten()


@pytest.mark.parametrize(("steps", "within"), [(3, 0.06), (4, 0.006), (5, 0.002), (8, 0.002)])
def test_few_steps_keep_the_power_of_a_texture_when_the_network_is_exact(steps: int, within: float) -> None:
    assert float((kept(fitted(steps)) - 1).abs().max()) < within
    angles = fitted(steps).angles
    assert len(angles) == steps and list(angles) == sorted(angles, reverse=True)
    even = tuple(math.pi / 2 * (1 - (k + 0.5) / steps) for k in range(steps))
    plain = kept(Sampler(even, (1.0,) * (steps - 1)))
    assert float(plain.max()) < 0.8  # DDIM, which is why they are fitted
    assert steps in FITTED


def test_a_drawn_texture_has_the_spectrum_that_the_network_knows() -> None:
    """The whole way of a draw, with a denoiser that is exact for one texture."""
    made = network()
    size = 256
    frequency = torch.hypot(torch.fft.fftfreq(size)[:, None], torch.fft.fftfreq(size)[None])
    power = frequency * torch.exp(-((frequency / 0.22) ** 2))
    power = (power / power.mean()).clamp(0.02, 4)

    def velocity(z: torch.Tensor, condition: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
        image = torch.fft.fft2(torch.pixel_shuffle(z, UNIT))
        found = torch.fft.ifft2(exact_velocity(power)(image, float(angle[0]))).real
        return torch.pixel_unshuffle(found, UNIT)

    made.velocity = velocity  # type: ignore[method-assign]
    made.scale = lambda x, mean: torch.full((len(x), 1, size // UNIT, size // UNIT), 0.02)  # type: ignore[method-assign]
    x = torch.zeros(8, 3, size, size)
    noise = torch.randn(8, 1, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        drawn = (made(x, noise) - made.twin(x)) / 0.02
    found = torch.fft.fft2(drawn).abs().square().mean((0, 1)) / size**2
    for low, high in ((0.02, 0.08), (0.08, 0.16), (0.16, 0.24), (0.24, 0.34), (0.34, 0.5)):
        band = (frequency >= low) & (frequency < high)
        assert float(found[band].mean() / power[band].mean()) == pytest.approx(1, abs=0.03), (low, high)


def test_the_latents_hold_all_of_an_image() -> None:
    """Nothing is lost on the way there and back, so that it limits no figure of quality: space to depth is
    exact to the bit, and the scale costs a rounding."""
    image = 0.3 * torch.randn(2, 1, 64, 128, generator=torch.Generator().manual_seed(2))
    one = torch.ones(2, 1, 16, 32)
    assert torch.equal(ResidualDiffusion.decode(ResidualDiffusion.encode(image, one), one), image)
    scale = 0.003 + 0.1 * torch.rand(2, 1, 16, 32, generator=torch.Generator().manual_seed(3))
    latents = ResidualDiffusion.encode(image, scale)
    assert latents.shape == (2, UNIT**2, 16, 32)
    back = ResidualDiffusion.decode(latents, scale)
    assert float((back - image).abs().max() / image.abs().max()) < 2e-7  # better than 130 dB
    other = 0.3 * torch.randn(2, UNIT**2, 16, 32)
    assert torch.allclose(ResidualDiffusion.encode(ResidualDiffusion.decode(other, scale), scale), other)


def test_a_velocity_is_split_into_what_it_was_made_of() -> None:
    draw = torch.Generator().manual_seed(4)
    clean, noise = torch.randn(2, 3, 16, 4, 4, generator=draw)
    for angle in (0.05, 0.7, 1.5):
        at = torch.full((3,), angle)
        z, velocity = sampler.mixed(clean, noise, at), sampler.velocity_of(clean, noise, at)
        for found, expected in zip(sampler.parts(z, velocity, angle), (clean, noise), strict=True):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_each_step_asks_the_network_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made, calls = network(), []
    made.denoiser.register_forward_hook(lambda *_: calls.append(1))
    for steps in (3, 4, 8):
        calls.clear()
        with torch.no_grad():
            made(torch.zeros(1, 3, 64, 64), steps=steps)
        assert len(calls) == steps


def test_the_loss_is_least_for_the_true_velocity() -> None:
    """A denoiser that knows what was left has no error; the scale's likelihood is best at its true SD."""
    made = network()
    draw = torch.Generator().manual_seed(5)
    x, noise = 0.02 * torch.randn(4, 3, 64, 64, generator=draw), torch.randn(4, 1, 64, 64, generator=draw)
    angle = torch.tensor([0.1, 0.5, 1.0, 1.4])
    with torch.no_grad():
        left = 0.02 * torch.randn(4, 1, 64, 64, generator=draw)
        reference = made.twin(x) + left
        truth = {}
        for sd in (0.01, 0.02, 0.04):
            scale = torch.full((4, 1, 16, 16), sd)
            made.scale = lambda x, mean, scale=scale: scale  # type: ignore[method-assign]
            z = made.encode(left, scale).clamp(-8, 8)
            latents = torch.pixel_unshuffle(noise, UNIT)
            made.velocity = lambda _z, _c, a, z=z, n=latents: sampler.velocity_of(z, n, a)  # type: ignore[method-assign]
            truth[sd] = made(x, noise, reference=reference, angle=angle)
            assert float(truth[sd][0]) < 1e-9
    assert min(truth, key=lambda sd: float(truth[sd][1])) == 0.02


def test_the_amplitude_is_that_of_what_the_mean_leaves(tmp_path: Path) -> None:
    """A scale of 50 HU where the mean leaves 20: draws of unit power are to be multiplied by 0.4."""
    made, rng = network(), np.random.default_rng(6)
    low = rng.normal(40, 30, (6, 128, 192)).astype(np.float32)
    low[:, :32] = -1000
    with torch.no_grad():
        near = np.stack([neighbours(low, z) for z in range(6)])
        mean = made.twin(torch.from_numpy(near) / 1000)[:, 0].numpy() * 1000
    high = mean + rng.normal(0, 20, low.shape)
    for name, array in (("degraded", low), ("reference", high.astype(np.float32))):
        CTVolume(array, (0.7, 0.7, 2.0)).write(tmp_path / f"one_{name}.nrrd")
    made.scale = lambda x, mean: torch.full((len(x), 1, *(n // UNIT for n in x.shape[-2:])), 0.05)  # type: ignore[method-assign]
    made.velocity = lambda z, _c, angle: exact_velocity(torch.ones(()))(z, float(angle[0]))  # type: ignore[method-assign]
    for stored in (1.0, 0.7):  # whatever is stored already
        made.amplitude.fill_(stored)
        assert amplitude(made, tmp_path) == pytest.approx(0.4, rel=0.03)


def test_each_second_draw_is_antithetic(tmp_path: Path) -> None:
    enhancer = enhancer_of(save_model(tmp_path, "residual-diffusion"), seed=2)
    size = (64, 128)
    for first in (0, 2, 14):
        np.testing.assert_array_equal(enhancer.noise(3, first + 1, size), -enhancer.noise(3, first, size))
        assert enhancer.symmetry(first) == enhancer.symmetry(first + 1)
    assert abs(float((enhancer.noise(3, 0, size) * enhancer.noise(3, 2, size)).mean())) < 0.05
    assert [enhancer.symmetry(draw) for draw in range(0, 16, 2)] == list(range(8))
    # the mean of a pair is nearer to the one-step network's image than either of its draws
    array = scan(slices=1, rows=64, columns=64).array
    one, two = (enhancer(array, 0, draw) for draw in (0, 1))
    x = np.clip(array[[0, 0, 0]], -1400, 3071)[None] / 1000
    with torch.no_grad():
        mean = enhancer_mean(tmp_path, x)
    apart = [float(np.abs(image - mean).mean()) for image in ((one + two) / 2, one, two)]
    assert apart[0] < 0.7 * min(apart[1:])


def enhancer_mean(folder: Path, x: np.ndarray) -> np.ndarray:
    module = ctenhance.enhancement.load_model(folder / "residual-diffusion.safetensors").module
    return module.twin(torch.from_numpy(x.astype(np.float32)))[0, 0].numpy() * 1000  # type: ignore[operator, union-attr]


def test_the_spread_of_antithetic_pairs_is_that_of_one_draw() -> None:
    """Draws with an odd and an even part in their noise: a variance of 9 + 2 * 4."""
    rng = np.random.default_rng(0)

    def variances(count: int, paired: bool) -> float:
        draws, noise = Draws(paired), np.zeros(0, np.float32)
        for k in range(count):
            antithetic = paired and k % 2
            noise = -noise if antithetic else rng.standard_normal((200, 200)).astype(np.float32)
            draws.add(5 + 3 * noise + 2 * (noise**2 - 1))
        assert draws.count == count and float(draws.mean.mean()) == pytest.approx(5, abs=0.05)
        assert draws.variance is not None
        return float(draws.variance.mean())

    for count in (4, 6, 8):
        assert variances(count, paired=True) == pytest.approx(17, rel=0.05)
        assert variances(count, paired=False) == pytest.approx(17, rel=0.05)
    assert variances(2, paired=True) == pytest.approx(9, rel=0.05)  # one pair knows the odd part alone
    assert variances(5, paired=True) == pytest.approx(17, rel=0.05)  # the last has no partner
    assert Draws(paired=True).sd is None
    lone = Draws(paired=False)
    lone.add(np.zeros((3, 3), np.float32))
    assert lone.sd is None


def test_the_spread_of_few_draws_is_pooled_over_neighbours() -> None:
    rng = np.random.default_rng(1)
    truth = np.where(np.arange(200) < 100, 3.0, 12.0)[None, None] * np.ones((1, 200, 1))
    draws = Draws(paired=False)
    for _ in range(3):
        draws.add((truth * rng.standard_normal(truth.shape)).astype(np.float32))
    variance, sd = draws.variance, draws.sd
    assert variance is not None and sd is not None
    inner = sd[0, :, 10:90]
    assert float(np.mean(inner**2)) == pytest.approx(9, rel=0.05)
    assert float(inner.std()) < 0.3 * float(np.sqrt(variance[0, :, 10:90]).std())
    assert float(sd[0, :, 103:].min()) > 5 and float(sd[0, :, :97].max()) < 6  # it stays where it is
