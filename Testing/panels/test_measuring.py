"""What a box is said to hold: noise, or structure, too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

SHAPE = (3, 40, 40)


@pytest.fixture(autouse=True)
def _library(app: Any) -> None:
    """The application stands before the library is imported."""


def noise(shape: tuple[int, ...] = SHAPE, seed: int = 0, width: int = 2) -> np.ndarray:
    """Noise of 25 HU whose neighbours are alike, as a scanner's."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=tuple(n + width for n in shape))
    for axis in range(3):
        values = sum(
            np.take(values, range(k, values.shape[axis] - width + k), axis) for k in range(width + 1)
        )
    return 25 * values / (width + 1) ** 1.5


def lines(height: float, columns: int) -> np.ndarray:
    values = np.zeros(SHAPE)
    values[:, :, :columns] = height
    return values


def vessels(height: float, count: int) -> np.ndarray:
    rng, values = np.random.default_rng(3), np.zeros(SHAPE)
    for y, x in rng.integers(2, 37, (count, 2)):
        values[:, y : y + 3, x : x + 3] = height
    return values


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shape", [SHAPE, (1, 40, 40), (12, 30, 30), (5, 60, 50)])
def test_noise_alone(shape: tuple[int, ...], seed: int) -> None:
    from CTEnhanceLib.measure.uniformity import isUniform

    assert isUniform(noise(shape, seed))
    ramp = np.linspace(0, 10, shape[-1])  # a shade that nobody sees
    assert isUniform((noise(shape, seed) + ramp).astype(np.int16))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "structure",
    [
        lines(900, 20),  # heart and lung
        lines(900, 3),
        lines(60, 20),
        lines(60, 10),
        vessels(600, 3),
        vessels(150, 8),
        100 * np.sin(np.arange(40) / 3.0)[None, :, None] * np.cos(np.arange(40) / 4.0) * np.ones(SHAPE),
        np.broadcast_to(np.linspace(0, 80, 40), SHAPE),
    ],
    ids=[
        "half lung",
        "rim of lung",
        "half fat",
        "some fat",
        "few vessels",
        "small vessels",
        "bowel",
        "shade",
    ],
)
def test_structure_is_no_noise(structure: np.ndarray, seed: int) -> None:
    from CTEnhanceLib.measure.uniformity import isUniform

    assert not isUniform(noise(seed=seed) + structure)
    # In the cleaned image, too, where nothing is left but the structure.
    assert not isUniform(0.3 * noise(seed=seed) + structure)


def test_too_small_to_tell() -> None:
    from CTEnhanceLib.measure.uniformity import isUniform

    assert not isUniform(noise((1, 6, 6)))
    assert isUniform(np.full(SHAPE, 7, np.int16))  # no noise at all is noise alone


def test_only_voxels_inside_count() -> None:
    from CTEnhanceLib.measure.uniformity import isUniform

    values = noise((4, 60, 60))
    values[:, :, 30:] += 900
    inside = np.zeros(values.shape, bool)
    inside[:, 5:55, 2:29] = True
    assert not isUniform(values) and isUniform(values, inside)


def test_the_table_says_noise_of_uniform_regions_only(app: Any) -> None:
    from ctenhance.quality.region import Difference
    from CTEnhanceLib.measure.roi import Statistics
    from CTEnhanceLib.measure.table import Row, richText

    def text(uniform: bool, slices: int = 3) -> str:
        first = Statistics(500, slices, 40.0, 30.0, True, 300.0)
        second = Statistics(500, slices, 41.0, 15.0, uniform, 300.0)
        row = Row("R1", "round", first, second, Difference(1.0, 0.5, 1.5, 80.0), True)
        return richText([row], ("Before", "After"))

    assert "noise (SD) -50 %" in text(True) and "not noise" not in text(True)
    assert "noise (SD)" not in text(False) and "SD -50 %, not noise alone" in text(False)
    assert "500 voxels in 3 slices" in text(True) and "500 voxels in one slice" in text(True, 1)
    assert "Difference +1.0 HU (95 %: +0.5 to +1.5)" in text(True) and "300 mm²" in text(True)
