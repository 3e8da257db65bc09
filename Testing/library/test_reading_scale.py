"""Wrong slopes and intercepts, told by where air and soft tissue lie; and scans that are right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 (its customary name)
from scipy.fft import dctn, idctn
from synthetic_dicom import write_series

from ctenhance import CTVolume
from ctenhance.core.hounsfield import doubt_of_scale
from ctenhance.core.scale import doubt_of_density, levels_of
from ctenhance.runtime.errors import InputError

SIDE = 96
Y, X = np.mgrid[:SIDE, :SIDE] - SIDE / 2
R = np.hypot(X, Y * 1.2)


def chest(noise: float = 10.0, slices: int = 4) -> np.ndarray:
    """Air, fat, muscle, lungs that vary and a spine, HU [z, y, x]."""
    draw = np.random.default_rng(5)
    plane = np.select([R < 30, R < 36, R < 42], [20.0, 50.0, -100.0], -1000.0)
    for side in (-15, 15):
        lung = np.hypot(X - side, Y) < 11
        plane[lung] = -850 + 120 * np.sin(X[lung] * 1.3) * np.sin(Y[lung])
    plane[np.hypot(X, Y - 22) < 4] = 500
    return np.rint(plane + draw.normal(0, noise, (slices, SIDE, SIDE)))


CHEST = chest()
NOT = "its scale does not fit: what looks like air near"

# Slope and intercept that are wrong, of pixels that are signed HU, or stored with 1024 added.
WRONG = {
    "slope 1.5, signed": CHEST * 1.5,
    "slope 2, signed": CHEST * 2,
    "slope 0.5, signed": CHEST * 0.5,
    "slope 0.8, signed": CHEST * 0.8,
    "slope 1.5": (CHEST + 1024) * 1.5 - 1024,
    "slope 0.5": (CHEST + 1024) * 0.5 - 1024,
    "intercept -1824": CHEST - 800,
    "intercept -1500": CHEST - 476,
    "intercept -1200": CHEST - 176,
    "intercept -848": CHEST + 176,
    "intercept -524": CHEST + 500,
}


@pytest.mark.parametrize("case", WRONG)
def test_what_a_wrong_scale_moves_is_said(tmp_path: Path, case: str) -> None:
    values = np.rint(WRONG[case])
    write_series(tmp_path, values=values, PixelRepresentation=1, RescaleIntercept=0)
    try:
        said = " ".join(CTVolume.read(tmp_path).meta["notes"])
    except InputError as error:
        said = str(error)
    assert NOT in said or "between -200 and 200 HU" in said or "slope were doubled" in said


@pytest.mark.parametrize("slope, intercept", [(1, 50), (1, -50), (0.9, -102), (1.0, 0), (1.0, 20)])
def test_fat_and_muscle_tell_less_than_air_does(slope: float, intercept: float) -> None:
    draw = np.random.default_rng(2)
    plane = np.select([R < 28, R < 40], [50.0, -100.0], -1000.0) + draw.normal(0, 10, (4, SIDE, SIDE))
    said = doubt_of_scale(np.rint(slope * plane + intercept).astype(np.float32))
    right = slope == 1 and abs(intercept) < 40
    assert not said if right else "its scale does not fit" in said and "fat" in said


def test_the_sentence_says_what_was_found() -> None:
    levels = levels_of(CHEST - 476)
    assert levels.air == pytest.approx(-1476, abs=5) and levels.wrong and levels.refuted
    assert f"{NOT} {levels.air:.0f} HU and soft tissue or fat near {levels.tissue:.0f} HU" in str(levels)


def test_air_below_which_padding_would_be_taken_is_refused(tmp_path: Path) -> None:
    """An intercept of -1824: air at -1800 would become -1024, and fat and muscle look like lung."""
    write_series(tmp_path, values=CHEST - 800, PixelRepresentation=1, RescaleIntercept=-1824)
    with pytest.raises(InputError, match=r"its scale does not fit.*correct its rescale slope and intercept"):
        CTVolume.read(tmp_path)


RIGHT = {
    "as it is": CHEST,
    "quiet": chest(3),
    "noisy": chest(30),
    "without outer air": CHEST[:, 20:-20, 12:-12],
    "a lung alone": CHEST[:, 32:64, 52:74].repeat(2, 1).repeat(2, 2),
    "padded": np.where(R > 45, -2000, CHEST),
    "padded and compressed": np.where(R > 45, -2000 + (CHEST % 3), CHEST),
    "air that is cut off": np.maximum(CHEST, -1000),
    "contrast": np.where((R < 30) & (CHEST > 0), CHEST + 250, CHEST),
    "one slice": CHEST[:1],
    "a phantom of acrylic": np.where(R < 40, 120, -1000) + CHEST % 9,
    "soft tissue alone": np.where(R < 40, 40, -90) + chest(12) % 11,
}


@pytest.mark.parametrize("case", RIGHT)
def test_a_right_scale_is_not_doubted(case: str) -> None:
    assert not levels_of(RIGHT[case].astype(np.float32)).wrong


def test_no_real_scan_is_doubted_and_each_is_if_it_is_moved(shared_data: Path) -> None:
    missed, moved_little = [], []
    for path in sorted((shared_data / "ct").glob("*.nii.gz")):
        array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[::4].astype(np.float32)
        half = array.shape[1] // 4
        for piece in (array, array[:, half:-half], array[:, :, half:-half], array[:1]):
            assert not levels_of(piece).wrong, path.name
        moved_little += [bool(doubt_of_scale(array + by)) for by in (-60, 60)]
        missed += [(path.name, by) for by in (-800, -300, 500) if not doubt_of_scale(array + by)]
    # A calcium phantom has as much of what is like lung as of air.
    assert len({name for name, _ in missed}) <= 2
    assert np.mean(moved_little) > 0.6


@pytest.mark.parametrize("step", [10, 40, 80])
def test_lossy_padding_around_a_chest_is_no_air_of_another_scale(
    tmp_path: Path, shared_data: Path, step: int
) -> None:
    """Where the field of view ends at the skin there is next to no air beside the padding."""
    path = shared_data / "ct" / "chest_lungdx_A0001_philips_kernelB.nii.gz"
    scan = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[8:24, :352:2, 68:420:2].astype(float)
    y, x = np.mgrid[:176, :176] - 89.5
    outside = np.hypot(y, x) > 90
    padded = np.where(outside, -2000, scan).reshape(16, 22, 8, 22, 8)
    # As JPEG does it: the cosines of 8 x 8 pixels, rounded.
    cosines = np.round(dctn(padded, axes=(2, 4), norm="ortho") / step) * step
    stored = np.rint(idctn(cosines, axes=(2, 4), norm="ortho")).reshape(16, 176, 176)
    lossy = {"LossyImageCompression": "01", "PixelRepresentation": 1, "RescaleIntercept": 0}
    write_series(tmp_path, 2.5 * np.arange(16), values=stored, **lossy)

    volume = CTVolume.read(tmp_path)

    assert "padding outside the field of view set to -1024 HU" in volume.meta["notes"]
    assert (volume.array[:, outside] == -1024).mean() > 0.999
    assert not any("scale does not fit" in note for note in volume.meta["notes"])


@pytest.mark.parametrize(
    ("fat", "muscle", "said"),
    [(-100, 50, False), (-52, 43, True), (-60, 35, True), (-80, 40, False), (-50, 5, False)],
)
def test_electron_density_on_the_scale_of_hu_is_noted_by_its_fat(
    fat: float, muscle: float, said: bool
) -> None:
    y, x = np.mgrid[:160, :160] - 79.5
    away = np.hypot(x / 1.2, y)
    plane = np.where(away < 62, float(fat), -1000.0)
    plane[away < 44] = muscle
    array = (plane + np.random.default_rng(0).normal(0, 10, (4, 160, 160))).astype(np.float32)
    assert ("electron density" in doubt_of_density(array)) == said


@pytest.mark.parametrize("slices", [1, 4])
def test_ten_times_hounsfield_units_are_refused(tmp_path: Path, slices: int) -> None:
    y, x = np.mgrid[:96, :96] - 47.5
    plane = np.where(np.hypot(x / 1.3, y) < 34, 45.0, -1000.0)
    plane[np.hypot(x - 12, y) < 12] = -830
    array = plane + np.random.default_rng(0).normal(0, 12, (slices, 96, 96))
    write_series(
        tmp_path / "ten", range(slices), values=np.rint(10 * array).astype(np.int32), RescaleIntercept=-12000
    )
    CTVolume((10 * array).astype(np.float32), (0.8, 0.8, 2.0), (1, 2, 3)).write(tmp_path / "a.nrrd")
    for path in ("ten", "a.nrrd"):
        with pytest.raises(InputError, match="ten times Hounsfield units"):
            CTVolume.read(tmp_path / path)
