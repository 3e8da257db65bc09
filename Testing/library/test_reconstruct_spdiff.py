"""SPDiff: the shifted-Poisson process against its moments, time matching, and the networks' sizes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ctenhance.reconstruction import spdiff
from ctenhance.reconstruction.networks import PROJECTION_CHANNELS, build
from ctenhance.runtime.errors import Cancelled, InputError

DRAWS = 200_000


class Silent(nn.Module):
    """A network that corrects nothing."""

    def forward(self, x: torch.Tensor, log_quanta: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x[:, :1])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def flat_counts(integral: float, quanta: float, electronic: float, shape: tuple[int, ...]) -> torch.Tensor:
    expected = torch.full(shape, quanta * math.exp(-integral))
    noise = torch.randn(shape, generator=seeded(1)) * electronic**0.5
    return torch.poisson(expected, generator=seeded(2)) + noise


def test_the_published_schedule_and_what_lies_beyond_it() -> None:
    published = spdiff.schedule(10, 12.0)
    expected = [300000, 135000, 87097, 64286, 50943, 42188, 36000, 31395, 27835, 25000]
    assert [round(v) for v in published.tolist()] == expected
    # 2.5 % of the normal dose lies inside the own one
    assert float(spdiff.schedule()[-1]) < 0.025 * spdiff.NORMAL_QUANTA


@pytest.mark.parametrize(("divisor", "index"), [(1, 0), (2, 1), (4, 3), (8, 7), (10, 9), (20, 9)])
def test_time_matching_by_quanta(divisor: float, index: int) -> None:
    assert spdiff.match_level(spdiff.NORMAL_QUANTA / divisor, spdiff.schedule(10, 12.0)) == index


@pytest.mark.parametrize("quanta", [6250.0, 62_500.0, 2.9e5, 4e5])
def test_steps_lead_from_the_measured_level_towards_the_clean_one(quanta: float) -> None:
    factors = spdiff.factors(quanta, 4)
    assert factors[0] == 1
    assert factors == sorted(factors)
    assert factors[-1] * quanta < max(spdiff.CLEAN_QUANTA, quanta * 1.0001)


def test_moments_of_a_state() -> None:
    clean, quanta, electronic = 0.05, torch.tensor(42_188.0), 10.0
    state = spdiff.shifted_poisson(torch.full((DRAWS,), clean), quanta, electronic, seeded())
    x = state.double() / float(quanta)
    variance = clean / float(quanta) + electronic / float(quanta) ** 2
    assert float(x.mean()) == pytest.approx(
        clean + electronic / float(quanta), abs=4 * (variance / DRAWS) ** 0.5
    )
    assert float(x.var()) == pytest.approx(variance, rel=0.02)


def test_a_reverse_step_gives_the_next_levels_state() -> None:
    # with the true transmissions, added quanta make exactly the state of the higher level, shift and all
    clean, low, high, electronic = torch.full((DRAWS,), 0.002), torch.tensor(6250.0), torch.tensor(3e4), 10.0
    state = spdiff.shifted_poisson(clean, low, electronic, seeded(3))
    after = spdiff.reverse_step(state, low, high, clean, seeded(4)).double()
    expected = float(high) * 0.002 + electronic
    assert float(after.mean()) == pytest.approx(expected, abs=4 * (expected / DRAWS) ** 0.5)
    assert float(after.var()) == pytest.approx(expected, rel=0.02)


def test_a_reverse_step_takes_no_negative_transmission() -> None:
    state = torch.ones(5)
    after = spdiff.reverse_step(
        state, torch.tensor(10.0), torch.tensor(100.0), torch.full((5,), -0.2), seeded()
    )
    assert torch.equal(after, state)


@pytest.mark.parametrize(
    ("integral", "quanta"), [(1.0, 6250.0), (4.0, 62_500.0), (6.0, 25_000.0), (6.0, 2.5e5)]
)
def test_readings_are_unbiased_before_any_network(integral: float, quanta: float) -> None:
    # 62 quanta and 10 counts^2: a shift that is not taken out again would cost 0.15
    electronic = 10.0
    counts = flat_counts(integral, quanta, electronic, (3, 160, 160))
    seen = spdiff.readings(counts, torch.full((160,), quanta), electronic, 1)
    value = spdiff.denoise(Silent(), seen)
    assert float(value.mean()) == pytest.approx(integral, abs=0.012)


def test_the_network_sees_noise_of_unit_size_at_any_dose() -> None:
    for quanta in (6250.0, 62_500.0, 2.5e5):
        counts = flat_counts(3.0, quanta, 10.0, (3, 128, 128))
        seen = spdiff.features(spdiff.readings(counts, torch.full((128,), quanta), 10.0, 1))
        assert 0.8 < float(seen.deviation.std()) < 1.1
        assert seen.channels.shape == (1, PROJECTION_CHANNELS, 128, 128)


def test_negative_and_missing_readings_stay_finite() -> None:
    for reading in (-20.0, 0.0):
        counts = torch.full((3, 32, 32), reading)
        value = spdiff.denoise(Silent(), spdiff.readings(counts, torch.full((32,), 6250.0), 4.0, 1))
        assert 6 < float(value.min()) <= float(value.max()) <= spdiff.GREATEST_INTEGRAL


def test_every_column_has_its_own_level() -> None:
    air = torch.logspace(math.log10(2e3), math.log10(2e5), 96)  # as steep as a bowtie is
    counts = torch.poisson(air * math.exp(-2.0) * torch.ones(3, 200, 96), generator=seeded())
    value = spdiff.denoise(Silent(), spdiff.readings(counts, air, 0.0, 1))
    assert float((value.mean((0, 1)) - 2.0).abs().max()) < 0.03
    assert float(value[..., :8].std()) > 3 * float(value[..., -8:].std())


def test_the_gain_of_single_columns_is_no_structure() -> None:
    # detectors' columns differ by some per cent in what they count of the same quanta
    transmission = torch.exp(-torch.linspace(0, 4, 96)).expand(3, 64, -1)
    gain = 1 + 0.1 * torch.randn(96, generator=seeded())
    even, uneven = (
        spdiff.features(spdiff.readings(2e5 * g * transmission, 2e5 * g, 10.0, 1))
        for g in (torch.ones(96), gain)
    )
    assert float((uneven.baseline - even.baseline).abs().max()) < 1e-3
    structure = [seen.deviation * seen.noise for seen in (even, uneven)]  # in line integrals
    assert float((structure[1] - structure[0]).abs().max()) < 1e-3


def test_neighbours_at_the_ends_are_the_slice_itself() -> None:
    counts = torch.arange(3.0)[:, None, None].expand(3, 4, 4)
    air = torch.ones(4)
    assert spdiff.readings(counts, air, 0.0, 0).shifted[0, :, 0, 0].tolist() == [0, 0, 1]
    assert spdiff.readings(counts, air, 0.0, 2).shifted[0, :, 0, 0].tolist() == [1, 2, 2]


def test_sampling_adds_the_predicted_quanta() -> None:
    # the network is silent, so each further step averages the reading with draws from its own estimate
    quanta = 25_000.0
    counts = flat_counts(2.0, quanta, 0.0, (3, 96, 96))
    seen = spdiff.readings(counts, torch.full((96,), quanta), 0.0, 1)
    once = spdiff.sample(Silent(), seen, 1)
    thrice = spdiff.sample(Silent(), seen, 3, seeded(5))
    assert float(thrice.mean()) == pytest.approx(2.0, abs=0.01)
    assert float((thrice - once).std()) > 0.001
    assert torch.equal(thrice, spdiff.sample(Silent(), seen, 3, seeded(5)))
    assert torch.equal(once, spdiff.sample(Silent(), seen, 1, seeded(6)))


def test_sampling_can_be_stopped() -> None:
    def stop() -> None:
        raise Cancelled

    seen = spdiff.readings(torch.ones(3, 8, 8), torch.ones(8), 0.0, 1)
    with pytest.raises(Cancelled):
        spdiff.sample(Silent(), seen, 1, None, stop)


@pytest.mark.parametrize("quanta", [2e4, 2e5])
def test_quanta_are_found_in_the_noise(quanta: float) -> None:
    views = torch.linspace(0, 6, 300)[:, None]
    columns = torch.linspace(-1, 1, 240)[None, :]
    clean = (3 * (1 - columns.square()).sqrt() * (1 + 0.1 * torch.sin(views))).expand(2, -1, -1)
    counts = torch.poisson(quanta * torch.exp(-clean), generator=seeded(7))
    assert spdiff.quanta_from_noise(-torch.log(counts / quanta)) == pytest.approx(quanta, rel=0.1)


def test_sizes_of_the_networks() -> None:
    published, compact = (build(name, {}) for name in ("spdiff-published", "spdiff-compact"))
    assert sum(p.numel() for p in published.parameters()) == 4_355_041
    assert sum(p.numel() for p in compact.parameters()) < 600_000


@pytest.mark.parametrize("name", ["spdiff-published", "spdiff-compact"])
def test_networks_take_any_size(name: str) -> None:
    arguments = {} if name == "spdiff-published" else {"features": [4, 4, 4, 4, 4, 4]}
    network = build(name, arguments)
    x = torch.randn((1, PROJECTION_CHANNELS, 37, 51), generator=seeded())
    assert network(x, torch.tensor([10.0])).shape == (1, 1, 37, 51)


def test_the_published_networks_time_is_continuous() -> None:
    network = build("spdiff-published", {})
    x = torch.randn((1, PROJECTION_CHANNELS, 16, 16), generator=seeded())
    with torch.no_grad():
        one, near, far = (network(x, torch.tensor([t])) for t in (10.0, 10.01, 12.0))
    assert 0 < float((near - one).abs().max()) < float((far - one).abs().max())


def test_refuses_arguments_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="spdiff-compact"):
        build("spdiff-compact", {"depth": 3})


def test_slices_seen_together_are_seen_alike() -> None:
    counts = torch.poisson(torch.full((4, 40, 60), 90.0), generator=seeded(1))
    air = torch.linspace(500, 900, 60)
    seen = spdiff.about_all(counts, air, 4.0)
    for z in range(4):
        measured = spdiff.readings(counts, air, 4.0, z)
        alone, together = spdiff.features(measured), spdiff.features(measured, seen.near(z))
        for part in ("channels", "baseline", "noise", "deviation", "log_quanta"):
            assert torch.equal(getattr(alone, part), getattr(together, part)), part
