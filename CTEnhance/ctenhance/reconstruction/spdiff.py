"""SPDiff: the shifted-Poisson diffusion on readings before the logarithm.

A ray with L quanta in air and transmission x0 = exp(-p) reads I ~ Poisson(L x0) + Normal(0, s2), s2 the
electronic variance in counts^2. Shifted by s2, mean and variance agree with a Poisson variable's:

    I + s2  ~  Poisson(L x0 + s2)                 (state at level L; x = (I + s2) / L in transmissions)

More quanta on the same ray add up exactly, the shift being carried along (Poisson additivity):

    (I + s2)' = (I + s2) + Poisson((L' - L) x0),  L' > L.

So one reverse step adds the quanta that the network's x0 predicts (NEED, arXiv 2506.22012; METHODS C.3). The
level is continuous and belongs to each ray: a bowtie gives every column its own, and all of them grow by one
factor. A scan's place on the schedule follows from its air reading and its electronic variance, not from a
dose label. The network sees readings in units of their own noise about a smooth baseline, which look alike
at 100 % and at 2.5 % of the dose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch

from ctenhance.reconstruction.significance import put_back
from ctenhance.reconstruction.smoothing import (
    SECOND_DIFFERENCES_VARIANCE,
    along,
    asinh,
    second_differences,
)

#: Quanta a ray at which a reading counts as clean, and at normal dose (METHODS C.2, C.3).
CLEAN_QUANTA, NORMAL_QUANTA = 3e5, 2.5e5
#: The schedule goes on to this divisor of the clean quanta: 2 % of the normal dose (published: 12, 10 %).
LAST_DIVISOR = 60.0
#: Least expected count that a reading is normalised by. A baseline is never taken below the first share of a
#: reading's noise, its noise never above one over the second: rays without light keep a finite integral.
LEAST_COUNT, LEAST_SIGNAL, LEAST_SLOPE = 0.5, 0.15, 0.5
#: Line integrals that a patient can have; noise may reach a little below zero.
LEAST_INTEGRAL, GREATEST_INTEGRAL = -0.5, 14.0


def schedule(levels: int = 10, last_divisor: float = LAST_DIVISOR) -> torch.Tensor:
    """Quanta `[levels]` of the schedule: the clean quanta over divisors growing linearly from 1.

    `schedule(10, 12.0)` is the published one (3e5 to 2.5e4); the default reaches below 2.5 % dose.
    """
    return CLEAN_QUANTA / torch.linspace(1, last_divisor, levels, dtype=torch.float64)


def match_level(quanta: float, levels: torch.Tensor) -> int:
    """Index of the schedule's level nearest to `quanta` in air (the published time matching)."""
    return int((levels - quanta).abs().argmin())


def factors(quanta: float, steps: int) -> list[float]:
    """Factors on the quanta of each of `steps` network evaluations: from the measured level (1) towards the
    clean one.

    Equal steps in the divisor, as in the schedule; the clean level itself is the result, not an input.
    """
    divisor = max(1.0, CLEAN_QUANTA / quanta)
    return [divisor / (divisor + (1 - divisor) * i / steps) for i in range(steps)]


@dataclass(frozen=True)
class Readings:
    """Shifted readings of neighbouring slices and what they were measured with.

    shifted     I + s2 in counts, `[batch, 3, view, column]` (below, middle, above)
    air         quanta in air, broadcastable to `shifted`, of four axes
    electronic  s2 in counts^2, broadcastable to `shifted`
    """

    shifted: torch.Tensor
    air: torch.Tensor
    electronic: torch.Tensor

    def to(self, device: torch.device) -> Readings:
        """The same readings on a device."""
        return Readings(self.shifted.to(device), self.air.to(device), self.electronic.to(device))


def readings(counts: torch.Tensor, air: torch.Tensor, electronic: float, z: int) -> Readings:
    """Slice `z` and its neighbours (at an end itself) of measured `counts` `[slice, view, column]`.

    `air`: quanta in air, `[column]` or like the counts, with an axis of 1 where they do not differ.
    """
    near = [max(z - 1, 0), z, min(z + 1, len(counts) - 1)]
    quanta = air.to(counts).expand(len(counts), -1 if air.dim() > 2 else 1, -1)
    variance = torch.full((1, 1, 1, 1), electronic).to(counts)
    return Readings(counts[near][None] + variance, quanta[near][None], variance)


def about_all(counts: torch.Tensor, air: torch.Tensor, electronic: float) -> About:
    """All slices of `counts` about their baselines; arguments as in `readings`."""
    variance = torch.full((1, 1, 1, 1), electronic).to(counts)
    quanta = air.to(counts).expand(len(counts), -1 if air.dim() > 2 else 1, -1)
    return about(counts[None] + variance, quanta[None], variance)


def shifted_poisson(
    transmission: torch.Tensor,
    quanta: torch.Tensor,
    electronic: torch.Tensor | float,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """A state of the process, in shifted counts: Poisson(L x0 + s2)."""
    return torch.poisson(quanta * transmission + electronic, generator=generator)


def reverse_step(
    shifted: torch.Tensor,
    quanta: torch.Tensor,
    more_quanta: torch.Tensor,
    clean: torch.Tensor,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """The state at `more_quanta` in air from that at `quanta`, given the transmissions `clean` (>= 0)."""
    return shifted + torch.poisson((more_quanta - quanta) * clean.clamp(min=0), generator=generator)


def _kernel(*taps: float) -> list[float]:
    return [tap / sum(taps) for tap in taps]


#: Smoothing along views and along columns; the second comes on top of the first.
_FIRST = (_kernel(1, 2, 1), _kernel(1, 4, 6, 4, 1))
_SECOND = (_kernel(1, 2, 3, 2, 1), _kernel(1, 2, 3, 4, 5, 4, 3, 2, 1))
#: SD of the first baseline, and of its difference from the second, relative to a reading's own noise.
_FIRST_NOISE, _SECOND_NOISE = 0.32, 0.25


@dataclass(frozen=True)
class About:
    """Readings `[batch, slice, view, column]` about their smooth baselines, each slice by itself."""

    baseline: torch.Tensor
    noise: torch.Tensor
    log_noise: torch.Tensor
    deviation: torch.Tensor
    fine: torch.Tensor
    coarse: torch.Tensor

    def near(self, z: int) -> About:
        """Slice `z` and its neighbours, as `readings` takes them."""
        count = self.baseline.shape[1]
        rows = [max(z - 1, 0), z, min(z + 1, count - 1)]
        return About(*(getattr(self, part.name)[:, rows] for part in fields(self)))


def about(shifted: torch.Tensor, air: torch.Tensor, electronic: torch.Tensor) -> About:
    """Shifted readings `[batch, slice, view, column]` about their baselines, in units of their noise."""

    def smoothed(counts: torch.Tensor, kernels: tuple[list[float], list[float]]) -> torch.Tensor:
        # columns differ in gain: it is their transmissions that are alike
        return air * along(along((counts - electronic) / air, kernels[0], -2), kernels[1], -1) + electronic

    smooth = smoothed(shifted, _FIRST).clamp(min=LEAST_COUNT)
    wide = smoothed(smooth, _SECOND).clamp(min=LEAST_COUNT)
    sd = smooth.sqrt()
    # where the first baseline drowns in its own noise the second takes over
    trust = ((smooth - electronic) / (_FIRST_NOISE * sd) - 2).div(4).clamp(0, 1)
    reference = wide + trust * (smooth - wide)
    signal = reference - electronic
    noise = sd / torch.maximum(signal, LEAST_SLOPE * sd)
    deviation = (shifted - reference) / sd
    return About(
        baseline=(air / torch.maximum(signal, LEAST_SIGNAL * sd)).log(),
        noise=noise,
        log_noise=noise.log(),
        deviation=deviation,
        # beyond some standard deviations it is structure: its size need not be exact
        fine=asinh(deviation),
        coarse=asinh((smooth - wide) / (_SECOND_NOISE * sd)),
    )


@dataclass(frozen=True)
class Features:
    """What the network sees, `channels` `[batch, 9, view, column]`, and how its output becomes a line
    integral.

    integral = baseline - noise * (deviation + output), each `[batch, 1, view, column]`: the logarithm,
    linearised about the smooth baseline (an average of readings stays unbiased however few quanta they
    are). `log_quanta` `[batch]`: mean logarithm of the middle slice's quanta in air."""

    channels: torch.Tensor
    baseline: torch.Tensor
    noise: torch.Tensor
    deviation: torch.Tensor
    log_quanta: torch.Tensor

    def integral(self, output: torch.Tensor) -> torch.Tensor:
        """Line integrals `[batch, 1, view, column]` of the network's output."""
        value = self.baseline - self.noise * (self.deviation + output)
        return value.clamp(LEAST_INTEGRAL, GREATEST_INTEGRAL)


def features(readings: Readings, known: About | None = None) -> Features:
    """Readings `[batch, 3, view, column]` about their baselines (`known`, where these are known already)."""
    found = known or about(readings.shifted, readings.air, readings.electronic)
    middle = slice(1, 2)
    log_noise = found.log_noise
    channels = torch.cat(
        [
            found.fine,
            found.coarse,
            found.baseline[:, middle] / 4 - 1,
            log_noise[:, middle] / 2 + 1,
            log_noise[:, ::2].mean(1, keepdim=True) - log_noise[:, middle],
        ],
        1,
    )
    log_quanta = readings.air[:, middle].log().flatten(1).mean(1).expand(len(channels))
    return Features(
        channels, found.baseline[:, middle], found.noise[:, middle], found.deviation[:, middle], log_quanta
    )


def denoise(
    network: Callable[..., torch.Tensor], measured: Readings, known: About | None = None
) -> torch.Tensor:
    """The network's line integrals `[batch, view, column]` of the middle slices; `known` as in `features`."""
    found = features(measured, known)
    return found.integral(network(found.channels, found.log_quanta).float())[:, 0]


def sample(
    network: Callable[..., torch.Tensor],
    measured: Readings,
    steps: int,
    generator: torch.Generator | None = None,
    between: Callable[[], None] = lambda: None,
    known: About | None = None,
) -> torch.Tensor:
    """Line integrals `[batch, view, column]` of the middle slices after `steps` network evaluations, with
    what of the readings was more than noise put back (`significance`).

    One step is the network's expectation; each further one adds the quanta that it predicted and looks again.
    The neighbours stay as measured. `between` is called before each evaluation (it may raise to stop);
    `known` as in `features`."""
    middle = slice(1, 2)
    state = measured.shifted[:, middle]
    air, now = measured.air[:, middle].expand_as(state), 1.0
    between()
    integral = denoise(network, measured, known)
    for factor in factors(float(air.max()), steps)[1:]:
        between()
        # drawn on the CPU: the same seed then means the same quanta on every device
        added = reverse_step(
            torch.zeros(state.shape),
            (now * air).cpu(),
            (factor * air).cpu(),
            torch.exp(-integral[:, None]).cpu(),
            generator,
        )
        state, now = state + added.to(state), factor
        shifted, level = measured.shifted.clone(), measured.air.expand_as(measured.shifted).clone()
        shifted[:, middle], level[:, middle] = state, now * air
        integral = denoise(network, Readings(shifted, level, measured.electronic))
    detected = (measured.shifted - measured.electronic)[:, 1]
    quanta = measured.air.expand_as(measured.shifted)[:, 1]
    return put_back(integral, detected, quanta, measured.electronic[:, 0])


def quanta_from_noise(line_integrals: torch.Tensor) -> float:
    """Quanta in air of a scan `[slice, view, column]` of which only line integrals are known.

    Their variance is exp(p) / L; second differences along views and columns leave noise alone, and the
    median keeps edges out of it."""
    rough = second_differences(line_integrals).square() / SECOND_DIFFERENCES_VARIANCE
    relative = rough * torch.exp(-line_integrals[:, 1:-1, 1:-1])
    # the median of a chi-squared variable with one degree of freedom is 0.4549
    inverse = float(relative.flatten()[:: max(1, relative.numel() // 1_000_000)].median()) / 0.4549
    return 1 / max(inverse, 1e-9)
