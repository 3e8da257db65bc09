"""Which volumes count as Hounsfield units, and which do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage
from synthetic_dicom import write_series

from ctenhance.core.hounsfield import (
    doubt_of_scale,
    has_air,
    require_air_around,
    require_air_in_place,
    require_hounsfield,
)
from ctenhance.core.padding import find_padding, padding_to_air
from ctenhance.core.volume import CTVolume
from ctenhance.runtime.errors import InputError

draw = np.random.default_rng(5)
SHAPE = (4, 64, 64)
DISTANCE = np.hypot(*np.meshgrid(np.arange(64) - 31.5, np.arange(64) - 31.5))


def noisy(hu: float | np.ndarray, noise: float = 12, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    return np.rint(draw.normal(hu, noise, shape))


BODY = noisy(np.select([DISTANCE < 6, DISTANCE < 20, DISTANCE < 28], [400, 45, -100], -1000))
IN_A_CIRCLE = np.where(DISTANCE < 31, BODY, -3024)
LUNG = noisy(np.where(draw.random(SHAPE) < 0.2, -100, -850))
# As lossy compression, and as resampling onto a turned grid leave the padding.
BLURRED = np.where(DISTANCE < 31, BODY, noisy(-3024, 4))
TURNED = ndimage.rotate(IN_A_CIRCLE, 20, (1, 2), reshape=False, order=1, cval=-3024)
LUNG_AND_VESSELS = noisy(np.where(draw.random(SHAPE) < 0.12, 40, -860), 25)
METAL = np.where(DISTANCE < 3, 30000, BODY)

HOUNSFIELD = {
    "a body in air": BODY,
    "clipped at -1024": np.maximum(BODY, -1024),
    "padding of -3024 around the field of view": IN_A_CIRCLE,
    "padding blurred by lossy compression": BLURRED,
    "padding blurred by resampling": TURNED,
    "two values of padding": np.where(DISTANCE < 31, BODY, np.where(DISTANCE < 36, -2000, -3024)),
    "nothing but the lung is left": np.where(DISTANCE < 25, LUNG_AND_VESSELS, -2000),
    "air alone, with padding": np.where(DISTANCE < 31, noisy(-1000, 10), -2000),
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
    "without the intercept, air below zero": BODY + 1000,
    "without the intercept, padding below zero": np.where(DISTANCE < 31, BODY + 1024, -2000),
    "without the intercept, blurred padding": np.where(DISTANCE < 31, BODY + 1024, noisy(-2000, 4)),
    "lung and vessels without the intercept": np.maximum(LUNG_AND_VESSELS + 1024, 0),
    "the intercept taken off twice": BODY - 1024,
    "the intercept taken off twice, and cut off": np.maximum(BODY - 1024, -2024),
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


@pytest.mark.parametrize("case", HOUNSFIELD)
def test_the_scale_of_what_is_in_hounsfield_units_is_not_doubted(case: str):
    require_air_in_place(HOUNSFIELD[case])
    assert doubt_of_scale(HOUNSFIELD[case]) == ""


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


def test_padding_is_found_sharp_or_blurred():
    sharp = find_padding(IN_A_CIRCLE)
    assert sharp is not None and (sharp.value, sharp.blurred) == (-3024, False)
    np.testing.assert_array_equal(sharp.mask(IN_A_CIRCLE[0]), DISTANCE >= 31)
    blurred = find_padding(BLURRED)
    assert blurred is not None and blurred.blurred
    np.testing.assert_array_equal(blurred.mask(BLURRED[0]), DISTANCE >= 31)
    lonely = BODY.copy()
    lonely[0, 0, 0] = -2000
    streaks = BODY.copy()
    streaks[:, 20:44:4, 30:34] = -1700  # undershoot of metal, not at the edge
    for none in (BODY, lonely, streaks, np.maximum(BODY, -1024)):
        assert find_padding(none) is None


@pytest.mark.parametrize("padded", [IN_A_CIRCLE, BLURRED, TURNED], ids=["sharp", "blurred", "turned"])
def test_all_padding_becomes_air(padded: np.ndarray):
    filled = padded.copy()
    assert padding_to_air(filled, -1024) is not None
    outside = padded < -1500
    assert np.all(filled[outside] == -1024)
    far_inside = np.broadcast_to(DISTANCE < 24, SHAPE)
    np.testing.assert_array_equal(filled[far_inside], padded[far_inside])
    # Sharp padding changes nothing but itself; the ringing around blurred padding goes with it.
    if padded is IN_A_CIRCLE:
        np.testing.assert_array_equal(filled[~outside], padded[~outside])
    else:
        rim = (DISTANCE > 29) & ~outside
        assert filled[rim].min() >= -1024
    assert padding_to_air(BODY.copy(), -1024) is None


def test_air():
    assert has_air(BODY) and has_air(IN_A_CIRCLE)
    assert not has_air(HOUNSFIELD["a liver crop"]) and not has_air(LUNG_AND_VESSELS + 1024)


@pytest.mark.parametrize("offset", [1000, 1024])
def test_a_forgotten_intercept_is_found_in_all_real_volumes(shared_data: Path, offset: int):
    files = sorted((shared_data / "ct").glob("*.nii.gz"))
    if not files:
        pytest.skip("the real CT volumes are not on this machine")
    for path in files[1::4]:
        array = CTVolume.read(path).array
        # As on scanners that do not cut the noise of air off at -1024.
        cut = array <= -1024
        array[cut] -= np.abs(draw.normal(0, 12, int(cut.sum())))
        with pytest.raises(InputError, match="intercept"):
            require_hounsfield(array + offset)


def _with_islands(filling: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a body whose padding reaches the edge and stands in two places inside, blurred, and the mask."""
    y, x = np.indices((64, 64))
    islands = (DISTANCE >= 31) | (np.hypot(y - 30, x - 24) < 4) | (np.hypot(y - 40, x - 40) < 3)
    padded = np.where(islands, filling, BODY)
    return ndimage.gaussian_filter(padded, (0, 0.6, 0.6)), np.broadcast_to(islands, SHAPE)


@pytest.mark.parametrize("filling", [-3024, -2000])
def test_blurred_islands_of_padding_inside_become_air(filling: int):
    padded, islands = _with_islands(noisy(filling, 5))
    filled = padded.copy()
    assert padding_to_air(filled, -1024) is not None
    core = ndimage.binary_erosion(islands, np.ones((1, 3, 3)))
    assert np.all(filled[core] == -1024)
    assert filled.min() >= -1500


def test_a_large_flat_piece_inside_is_padding_and_metal_is_not():
    large = np.tile(BODY, (1, 4, 4))
    y, x = np.indices(large.shape[1:])
    face = np.hypot(y - 90, x - 100) < 20
    filled = np.where(face, noisy(-2500, 6, large.shape), large)
    assert padding_to_air(filled, -1024) is not None
    assert np.all(filled[:, face] == -1024)
    # Undershoot beside metal: steep, and small.
    metal = np.where(face, -1000 - 1000 * np.clip(20 - np.hypot(y - 90, x - 100), 0, 20) / 20, large)
    assert find_padding(metal) is None


def test_what_was_masked_is_not_told_to_lack_its_intercept():
    draw = np.random.default_rng(0)
    body = np.zeros((4, 64, 64), np.float32)
    body[:, 10:54, 10:54] = draw.normal(60, 12, (4, 44, 44))
    body[:, 20:26, 20:26] += 700
    with pytest.raises(InputError, match="masked or cut off at 0; give the original CT"):
        require_hounsfield(np.clip(body, 0, None))
    with pytest.raises(InputError, match=r"without its rescale intercept.*subtract 1024"):
        require_hounsfield(np.clip(np.where(body == 0, -1024, body) + 1024, 0, None))


CHEST = np.maximum(
    noisy(np.select([DISTANCE < 12, DISTANCE < 20, DISTANCE < 28], [-850, 45, -100], -1000)), -1024
)


@pytest.mark.parametrize(("slope", "signed"), [(1.5, False), (2, False), (2, True)])
def test_a_wrong_slope_is_noted(tmp_path: Path, slope: float, signed: bool):
    intercept = 0 if signed else -1024
    wrong = ((CHEST - intercept) * slope + intercept).astype(np.float32)
    said = "slope were doubled" if signed else "between -200 and 200 HU"
    assert said in doubt_of_scale(wrong)
    changes = {"PixelRepresentation": int(signed), "RescaleIntercept": intercept, "RescaleSlope": slope}
    given = CHEST[:, :, ::2].repeat(2, 2) // 2 * 2
    write_series(tmp_path / "dicom", values=(given - intercept) * slope + intercept, **changes)
    if signed:
        with pytest.raises(InputError, match="its scale does not fit: what looks like air near -200"):
            CTVolume.read(tmp_path / "dicom")
    else:
        assert any(said in note for note in CTVolume.read(tmp_path / "dicom").meta["notes"])
    CTVolume(CHEST.astype(np.float32)).write(tmp_path / "right.nii.gz")
    assert not CTVolume.read(tmp_path / "right.nii.gz").meta.get("notes")


def test_a_wrong_slope_is_noted_in_files(tmp_path: Path):
    CTVolume((2 * CHEST + 1024).astype(np.float32)).write(tmp_path / "wrong.nii.gz")
    (note,) = CTVolume.read(tmp_path / "wrong.nii.gz").meta["notes"]
    assert "between -200 and 200 HU" in note


@pytest.mark.parametrize("lowest", [-2048, -2000])
def test_air_of_an_intercept_taken_off_twice_is_not_padding_in_dicom_either(tmp_path: Path, lowest: int):
    write_series(
        tmp_path, values=np.maximum(CHEST - 1024, lowest), PixelRepresentation=1, RescaleIntercept=-1024
    )
    with pytest.raises(InputError, match="rescale intercept was taken off twice"):
        CTVolume.read(tmp_path)


def test_an_inverted_image_is_told_as_such():
    body = np.where(DISTANCE < 24, noisy(40), noisy(-1000))
    body[:, 28:36, 28:36] += 800
    require_hounsfield(body)
    with pytest.raises(InputError, match=r"near 10\d\d HU, where air .* as in an inverted image"):
        require_hounsfield(-body)


def _lungs(values: tuple[float, float], outside: float) -> np.ndarray:
    """A map of two lungs [z, y, x], of noisy values, and one value all around them."""
    y, x = np.mgrid[:96, :128]
    lungs = (np.hypot((y - 48) / 30, (x - 38) / 20) < 1) | (np.hypot((y - 48) / 30, (x - 90) / 20) < 1)
    draw = np.random.default_rng(2)
    found = draw.normal(*values, (6, 96, 128))
    return np.where(lungs, found, outside).astype(np.float32)


@pytest.mark.parametrize("values", [(5, 8), (-3, 12), (100, 40), (-300, 60)])
@pytest.mark.parametrize("outside", [0, 100, -1])
@pytest.mark.parametrize("padding", [None, "declared"])
def test_a_map_of_lungs_with_one_value_outside_is_no_ct(
    tmp_path: Path, values: tuple[float, float], outside: float, padding: str | None
):
    found = np.rint(_lungs(values, outside)).astype(np.int16)
    given: dict[str, Any] = {} if padding is None else {"PixelPaddingValue": outside}
    write_series(
        tmp_path / "dicom",
        2.5 * np.arange(6),
        values=found,
        RescaleIntercept=0,
        PixelRepresentation=1,
        **given,
    )
    CTVolume(found.astype(np.float32), (0.7, 0.7, 2.5)).write(tmp_path / "map.nii.gz")
    for name in ("dicom", "map.nii.gz"):
        with pytest.raises(InputError, match=r"no air is in it anywhere|nothing below zero|0 stands where"):
            CTVolume.read(tmp_path / name)
        np.testing.assert_allclose(
            CTVolume.read(tmp_path / name, check_hu=False).array.mean(), found.mean(), 3
        )


def test_no_piece_of_a_real_scan_is_such_a_map(shared_data: Path):
    draw = np.random.default_rng(5)
    for path in sorted((shared_data / "ct").glob("*.nii.gz"))[::3]:
        array = CTVolume.read(path).array[::4]
        thick = np.stack([array.max(axis=0), array.mean(axis=0)])
        pieces = [array, thick, np.maximum(array, -1024)]
        for _ in range(20):
            side = int(draw.integers(64, min(array.shape[1:])))
            y, x = (int(draw.integers(0, length - side)) for length in array.shape[1:])
            pieces.append(array[:, y : y + side, x : x + side])
        for piece in pieces:
            require_air_around(piece)
