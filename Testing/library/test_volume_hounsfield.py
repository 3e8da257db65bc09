"""Which volumes count as Hounsfield units, and which do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ctenhance.hounsfield import padding_value, require_hounsfield
from ctenhance.runtime.errors import InputError
from ctenhance.volume import CTVolume

draw = np.random.default_rng(5)
SHAPE = (4, 64, 64)
DISTANCE = np.hypot(*np.meshgrid(np.arange(64) - 31.5, np.arange(64) - 31.5))


def noisy(hu: float | np.ndarray, noise: float = 12, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    return np.rint(draw.normal(hu, noise, shape))


BODY = noisy(np.select([DISTANCE < 6, DISTANCE < 20, DISTANCE < 28], [400, 45, -100], -1000))
IN_A_CIRCLE = np.where(DISTANCE < 31, BODY, -3024)
LUNG = noisy(np.where(draw.random(SHAPE) < 0.2, -100, -850))
METAL = np.where(DISTANCE < 3, 30000, BODY)

HOUNSFIELD = {
    "a body in air": BODY,
    "clipped at -1024": np.maximum(BODY, -1024),
    "padding of -3024 around the field of view": IN_A_CIRCLE,
    "mostly padding": np.where(DISTANCE < 15, BODY, -2000),
    "a lung crop": LUNG,
    "a soft-tissue crop without air": noisy(np.where(draw.random(SHAPE) < 0.5, -100, 50)),
    "a liver crop": noisy(110),
    "a quiet liver crop": noisy(110, 3),
    "a noisy liver crop": noisy(60, 30),
    "a bone crop": noisy(400, 150),
    "a water phantom in air": noisy(np.where(DISTANCE < 20, 0, -1000), 5),
    "inside a water phantom": noisy(0, 4),
    "a digital phantom without noise": np.broadcast_to(np.where(DISTANCE < 20, 40.0, -1000), SHAPE),
    "air alone": noisy(-1000, 8),
    "metal on an extended scale": METAL,
    "a scan so noisy that air spreads": noisy(np.where(DISTANCE < 20, 0, -1000), 150),
    "a single slice": BODY[:1],
}

OTHERS = {
    "0 to 1": (BODY + 1000) / 2000,
    "-1 to 1": BODY / 1000,
    "unit variance": (BODY - BODY.mean()) / BODY.std(),
    "attenuation per cm": 0.192 * (1 + BODY / 1000),
    "constant": np.zeros(SHAPE),
    "a mask": (BODY > 0).astype(float),
    "labels": draw.integers(0, 105, SHAPE).astype(float),
    "an 8-bit picture": np.clip((BODY + 160) / 400 * 255, 0, 255).round(),
    "MR": np.abs(noisy(np.where(DISTANCE < 28, 700, 0), 8)),
    "MR to 4000": np.abs(noisy(np.where(DISTANCE < 28, 2500, 10), 300)),
    "PET": draw.gamma(0.5, 2000, SHAPE),
    "without the intercept": np.maximum(BODY + 1024, 0),
    "a crop without the intercept": noisy(45) + 1024,
    "stored values around 32768": BODY + 32768,
    "unsigned read as signed": BODY - 32768,
    "phase of MR": draw.uniform(-4096, 4096, SHAPE),
}


@pytest.mark.parametrize("case", HOUNSFIELD)
def test_accepted(case: str):
    require_hounsfield(HOUNSFIELD[case].astype(np.float32))


@pytest.mark.parametrize("case", OTHERS)
def test_refused(case: str):
    values = OTHERS[case].astype(np.float32)
    with pytest.raises(InputError) as caught:
        require_hounsfield(values)
    assert f"{values.min():g}" in str(caught.value)


def test_large_volumes_are_judged_like_small_ones():
    """Above a million voxels only some are looked at."""
    large = np.tile(BODY.astype(np.float32), (100, 1, 1))
    require_hounsfield(large)
    with pytest.raises(InputError):
        require_hounsfield(np.maximum(large + 1024, 0))


def test_all_real_volumes_are_accepted(shared_data: Path):
    files = sorted((shared_data / "ct").glob("*.nii.gz"))
    if not files:
        pytest.skip("the real CT volumes are not on this machine")
    for path in files[::3]:
        array = CTVolume.read(path).array
        # Crops, too: any part of a CT is one.
        z, y, x = (length // 2 for length in array.shape)
        require_hounsfield(array[z : z + 1, y - 40 : y + 40, x - 40 : x + 40].copy())
        with pytest.raises(InputError):
            require_hounsfield(np.maximum(array + 1024, 0))


def test_padding_value():
    assert padding_value(IN_A_CIRCLE) == -3024
    assert padding_value(BODY) is None
    lonely = BODY.copy()
    lonely[0, 0, 0] = -2000
    assert padding_value(lonely) is None
    assert padding_value(np.maximum(BODY, -1024)) is None
