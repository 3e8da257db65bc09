"""Label maps whose axes run otherwise than their image's: each label stays at its place in the patient."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 (its customary name)
from batch_folders import StandIn, batch, verb
from enhance_body import body
from scipy.spatial.transform import Rotation

from ctenhance.batch import labels
from ctenhance.core.volume import CTVolume
from ctenhance.quality.compare import grid_difference
from ctenhance.runtime.errors import InputError

__all__ = ["verb"]

SHAPE = (4, 6, 5)
OBLIQUE = Rotation.from_euler("xyz", (10, -7, 21), degrees=True).as_matrix()


def volume(direction: np.ndarray) -> CTVolume:
    values = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    return CTVolume(values, (0.7, 0.8, 2.5), (-31.0, 12.0, 400.0), direction)


def turned(image: CTVolume, order: tuple[int, ...], flips: tuple[bool, ...]) -> sitk.Image:
    """The image with axes exchanged and turned by ITK, at the same place in the patient."""
    return sitk.Flip(sitk.PermuteAxes(image.to_sitk(), order), flips, False)


def save(image: sitk.Image, path: Path, kind: int = sitk.sitkInt16) -> Path:
    sitk.WriteImage(sitk.Cast(image, kind), str(path))
    return path


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("direction", [np.eye(3), np.diag([-1.0, 1, -1]), OBLIQUE])
def test_each_label_is_where_it_was(tmp_path: Path, suffix: str, direction: np.ndarray):
    image = volume(direction)
    for order in itertools.permutations(range(3)):
        for flips in itertools.product((False, True), repeat=3):
            path = save(turned(image, order, flips), tmp_path / f"a{suffix}")
            digest, again = labels.checked(path, image)
            assert len(digest) == 64
            if order == (0, 1, 2) and not any(flips):
                assert again is None  # it goes along as it is
                continue
            assert again is not None and grid_difference(again, image, "it") is None
            np.testing.assert_array_equal(again.array, image.array)


def test_what_lies_elsewhere_or_between_is_refused(tmp_path: Path):
    image = volume(np.eye(3))
    moved = turned(image, (2, 0, 1), (True, False, True))
    moved.SetOrigin([one + 3 for one in moved.GetOrigin()])
    between = image.to_sitk()
    between.SetDirection(OBLIQUE.ravel().tolist())
    cut = turned(image, (0, 1, 2), (True, False, False))[:, :, 1:]
    for number, (wrong, said) in enumerate(
        ((moved, "its origin at"), (between, "other axis directions"), (cut, "voxels (x, y, z)"))
    ):
        with pytest.raises(InputError, match="lies on another grid than its image") as raised:
            labels.checked(save(wrong, tmp_path / f"{number}.nrrd"), image)
        assert said in str(raised.value)


def test_what_the_change_would_lose_is_refused(tmp_path: Path):
    image = volume(np.eye(3))
    of_slicer = sitk.Cast(turned(image, (1, 0, 2), (False, True, False)), sitk.sitkUInt8)
    of_slicer.SetMetaData("Segment0_Name", "liver")
    sitk.WriteImage(of_slicer, str(tmp_path / "a.seg.nrrd"))
    with pytest.raises(InputError, match="would lose names of its segments"):
        labels.checked(tmp_path / "a.seg.nrrd", image)
    large = turned(image.with_array(image.array + 2**25), (1, 0, 2), (False, True, False))
    with pytest.raises(InputError, match="labels beyond 16 million"):
        labels.checked(save(large, tmp_path / "b.nrrd", sitk.sitkInt32), image)
    in_order = sitk.Cast(image.to_sitk(), sitk.sitkUInt8)
    in_order.SetMetaData("Segment0_Name", "liver")
    sitk.WriteImage(in_order, str(tmp_path / "c.seg.nrrd"))
    assert labels.checked(tmp_path / "c.seg.nrrd", image)[1] is None


def test_a_batch_carries_them_along_with_a_note(tmp_path: Path, verb: StandIn) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "masks").mkdir()
    image = body(5, 20, 1)
    image.write(tmp_path / "in" / "a.nii.gz")
    mask = image.with_array((image.array > 0).astype(np.float32) * 3)
    save(turned(mask, (2, 0, 1), (True, True, False)), tmp_path / "masks" / "a.nii.gz", sitk.sitkUInt8)
    options = ("--labels", tmp_path / "masks")
    told = batch(tmp_path / "in", tmp_path / "out", *options).stderr
    assert "'a.nii.gz': the label map has its axes in another order" in told
    carried = labels._read(tmp_path / "out" / "labels" / "a.nii.gz")
    np.testing.assert_array_equal(carried.array, mask.array)
    assert grid_difference(carried, CTVolume.read(tmp_path / "out" / "a.nii.gz"), "it") is None
    assert "1 finished before" in batch(tmp_path / "in", tmp_path / "out", *options).stdout
