"""Slices that alternate, as of two scans mixed, and single scans, of which none is pointed out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 (its customary name)
from scipy import ndimage

from ctenhance import CTVolume
from ctenhance.core.alternation import doubt_of_alternation
from ctenhance.core.repetition import repeats

SLICES, SIDE = 16, 96
Y, X = np.mgrid[:SIDE, :SIDE] - SIDE / 2


def _scan(noise: float = 12.0, seed: int = 0, slices: int = SLICES) -> np.ndarray:
    """A body that changes from slice to slice, HU [z, y, x], with noise of a soft kernel."""
    draw = np.random.default_rng(seed)
    planes = []
    for index in range(slices):
        body = np.hypot(X / (1 + 0.02 * index), Y) < 40
        bone = np.hypot(X, Y - 25 + index) < 6
        grain = ndimage.gaussian_filter(draw.normal(0, 1, X.shape), 0.7)
        planes.append(np.where(bone, 700, np.where(body, 50, -1000)) + noise * grain / grain.std())
    return np.stack(planes).astype(np.float32)


def images_alternate(array: np.ndarray) -> bool:
    return "as if scans were mixed" in doubt_of_alternation(array)


def _mixed(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    both = one.copy()
    both[1::2] = other[1::2]
    return both


@pytest.mark.parametrize("slices", [6, 9, 16, 45])
@pytest.mark.parametrize("seed", range(3))
def test_one_scan_does_not_alternate(slices: int, seed: int) -> None:
    assert doubt_of_alternation(_scan(seed=seed, slices=slices)) == ""


@pytest.mark.parametrize("slices", [8, 16, 45])
@pytest.mark.parametrize("noise", [6.0, 18.0, 60.0])
def test_scans_of_another_noise(noise: float, slices: int) -> None:
    mixed = _mixed(_scan(slices=slices), _scan(noise, seed=1, slices=slices))
    assert "as if scans were mixed" in doubt_of_alternation(mixed)


def test_scans_of_another_kernel() -> None:
    sharp = _scan() + 12 * np.random.default_rng(3).normal(0, 1, (SLICES, SIDE, SIDE)).astype(np.float32)
    assert images_alternate(_mixed(_scan(), sharp))


def test_scans_with_and_without_contrast() -> None:
    other = _scan(seed=1)
    other[:, 40:64, 20:44] += 120
    assert images_alternate(_mixed(_scan(), other))


def test_contrast_in_a_few_slices_of_many() -> None:
    other = _scan(seed=1, slices=80)
    other[30:54, 40:64, 20:44] += 120
    assert images_alternate(_mixed(_scan(slices=80), other))


def test_scans_between_which_the_patient_moved() -> None:
    assert images_alternate(_mixed(_scan(), np.roll(_scan(seed=1), 3, axis=2)))


def test_one_scan_behind_the_other() -> None:
    moved = _scan(slices=24)
    moved[10:] = np.roll(moved[10:], 12, axis=2)
    assert "from slice 10 to slice 11 " in doubt_of_alternation(moved)
    # A phantom's modules are even, and end all at once.
    modules = np.repeat(_scan(slices=4)[[0, 3]], 12, axis=0)
    modules += np.random.default_rng(0).normal(0, 5, modules.shape)
    assert doubt_of_alternation(modules.astype(np.float32)) == ""


@pytest.mark.parametrize("at", [3, 10, 20])
@pytest.mark.parametrize("kernel", ["soft", "sharp", "half the dose"])
def test_another_kernel_from_one_slice_on(at: int, kernel: str) -> None:
    array = _scan(slices=24)
    if kernel == "soft":
        array[at:] = ndimage.gaussian_filter(array[at:], (0, 0.8, 0.8))
    elif kernel == "sharp":
        array[at:] += 0.7 * (array[at:] - ndimage.gaussian_filter(array[at:], (0, 1, 1)))
    else:
        array[at:] = _scan(17.0, seed=1, slices=24)[at:]
    said = doubt_of_alternation(array)
    assert f"from slice {at} to slice {at + 1} " in said and "the noise changes all at once" in said


def test_noise_that_changes_step_by_step() -> None:
    array = np.concatenate([_scan(4.0 * 1.15**k, seed=k, slices=24)[2 * k : 2 * k + 2] for k in range(12)])
    assert doubt_of_alternation(array) == ""


@pytest.mark.parametrize("scans", [3, 4])
def test_more_than_two_scans(scans: int) -> None:
    noisy, contrast = _scan(slices=60), _scan(slices=60)
    noisy[1::scans] = _scan(30, seed=1, slices=60)[1::scans]
    contrast[::scans, 40:64, 20:44] += 120
    assert images_alternate(noisy) and images_alternate(contrast)


def test_a_volume_file_is_asked_too(tmp_path: Path) -> None:
    CTVolume(_mixed(_scan(), _scan(30, seed=1))).write(tmp_path / "mixed.nii.gz")
    assert any("every second slice" in one for one in CTVolume.read(tmp_path / "mixed.nii.gz").meta["notes"])


def _real(shared_data: Path, name: str) -> np.ndarray:
    image = sitk.ReadImage(str(next((shared_data / "ct").glob(f"{name}*.nii.gz"))))
    return sitk.GetArrayFromImage(image).astype(np.float32)


def test_no_real_scan_alternates(shared_data: Path) -> None:
    alternating = []
    for path in sorted((shared_data / "ct").glob("*.nii.gz")):
        array = _real(shared_data, path.name.split(".")[0])
        # As a whole, in pieces, and as thick as twice the slices.
        pieces = [array, array[::2]]
        pieces += [array[at : at + n] for n in (6, 8, 12) for at in range(0, max(len(array) - n, 1), n)]
        alternating += [path.name for piece in pieces if doubt_of_alternation(piece)]
    assert alternating == []


@pytest.mark.parametrize(
    "soft, sharp",
    [("chest_lungdx_A0001_philips_kernelB", "chest_lungdx_A0001_philips_kernelL"),
     ("phantom_head_philips_1mm_UB", "phantom_head_philips_1mm_YA")],
)  # fmt: skip
@pytest.mark.parametrize("slices", [6, 12, 40])
def test_two_real_kernels_mixed_are_found(shared_data: Path, soft: str, sharp: str, slices: int) -> None:
    mixed = _mixed(_real(shared_data, soft)[:slices], _real(shared_data, sharp)[:slices])
    assert images_alternate(mixed)


@pytest.mark.parametrize("at", [5, 20, 33])
def test_a_real_kernel_from_one_slice_on_is_found(shared_data: Path, at: int) -> None:
    soft, sharp = (_real(shared_data, f"chest_lungdx_A0001_philips_kernel{name}") for name in "BL")
    for one, other in ((soft, sharp), (sharp, soft)):
        said = doubt_of_alternation(np.concatenate([one[:at], other[at:]]))
        assert f"from slice {at} to slice {at + 1} " in said and "one reconstruction" in said


def _phases(array: np.ndarray, offsets: tuple[int, ...], where: np.ndarray) -> np.ndarray:
    mixed = array.copy()
    for index, plane in enumerate(mixed):
        plane[where[index] if where.ndim == 3 else where] += offsets[index % len(offsets)]
    return mixed


@pytest.mark.parametrize(
    "offsets", [(0, 15, 30), (0, 60, 25), (0, 25, 50, 15), (0, 80, 40, 40), (0, 0, 60, 60)]
)
def test_phases_and_pairs_of_weak_contrast(offsets: tuple[int, ...]) -> None:
    vessels = np.hypot(X + 10, Y) < 14
    assert repeats(_phases(_scan(slices=30), offsets, vessels))


@pytest.mark.parametrize("noise", [6.0, 12.0])
def test_a_small_insert_in_four_phases(noise: float) -> None:
    insert = (np.abs(X) < 6) & (np.abs(Y) < 6)
    assert repeats(_phases(_scan(noise, slices=26), (0, 50, 100, 30), insert))


@pytest.mark.parametrize("slices", [14, 26, 60])
@pytest.mark.parametrize("seed", range(3))
def test_one_scan_does_not_repeat(slices: int, seed: int) -> None:
    assert not repeats(_scan(seed=seed, slices=slices))


def test_real_scans_in_phases_are_found(shared_data: Path) -> None:
    found = []
    for name in ("chest_LIDC-IDRI_0002", "neckchest_tcga_thca", "abdomen_TCGA-THCA"):
        array = _real(shared_data, name)[:26]
        soft = ndimage.gaussian_filter(((array > 20) & (array < 90)).astype(np.float32), (0, 4, 4)) > 0.7
        found += [repeats(_phases(array, offsets, soft)) for offsets in ((0, 25, 50, 15), (0, 0, 60, 60))]
        assert not repeats(array)
    assert all(found)


def test_a_part_of_a_long_stack_that_alternates_is_told() -> None:
    """Of stacks of more than 500 slices windows stand side by side: 48 mixed slices hold one of 24."""
    rng = np.random.default_rng(5)
    scan = rng.normal(40, 12, (560, 64, 64)).astype(np.float32)
    assert doubt_of_alternation(scan) == ""
    scan[300:348:2, 8:56, 8:56] += 15
    assert "every second slice" in doubt_of_alternation(scan)
