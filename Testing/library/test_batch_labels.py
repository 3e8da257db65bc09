"""Label maps whose axes run otherwise than their image's: each label stays at its place in the patient."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 (its customary name)
from batch_folders import StandIn, batch, find_cases, verb, write_ct
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


def _label_map(path: Path, values: np.ndarray, kind: int = sitk.sitkUInt8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save(sitk.GetImageFromArray(values), path, kind)


def _many_labels() -> np.ndarray:
    """Organs of 40 kinds, as programs for all of them write."""
    found = np.zeros((3, 64, 64), np.int32)
    for label in range(40):
        found[:, label // 8 * 12 : label // 8 * 12 + 9, label % 8 * 8 : label % 8 * 8 + 6] = label + 1
    return found


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("labelsTr/CT_001.nii.gz", sitk.sitkUInt8),
        ("other/CT_001.nii.gz", sitk.sitkUInt8),
        ("labelsTs/CT_001.nii.gz", sitk.sitkInt16),
        ("masks/CT_001.nrrd", sitk.sitkFloat32),
        ("a.nrrd", sitk.sitkUInt8),
        ("a.mha", sitk.sitkInt8),
        ("a.nii", sitk.sitkInt8),
        ("CT_001_seg.nii", sitk.sitkInt16),
    ],
)
@pytest.mark.parametrize("many", [False, True])
def test_label_maps_among_the_cts_are_left_out(tmp_path: Path, name: str, kind: int, many: bool) -> None:
    root = tmp_path / "Dataset001"
    write_ct(root / "imagesTr" / "CT_001_0000.nii.gz")
    (root / "dataset.json").write_text("{}")
    values = _many_labels() if many else (np.arange(300).reshape(3, 10, 10) > 150).astype(np.int32)
    _label_map(root / name, values, kind)
    found = find_cases(root, tmp_path / "out")
    assert [case.name for case in found.cases] == ["imagesTr/CT_001_0000.nii.gz"]
    said = f"a label map (whole numbers 0 to {40 if many else 1}), no CT: --labels takes such along"
    assert found.left_out == {name: said}


def test_a_ct_is_no_label_map_whatever_its_name_or_bits(tmp_path: Path) -> None:
    write_ct(tmp_path / "in" / "labels" / "a.nii.gz")
    window = np.random.default_rng(0).normal(120, 20, (3, 32, 32)).clip(0, 255).round()
    window[:, :12] = 0  # air
    _label_map(tmp_path / "in" / "window.nii.gz", window)  # refused as a case of its own
    _label_map(tmp_path / "in" / "stored_seg.nii.gz", window * 4, sitk.sitkUInt16)
    assert [case.name for case in find_cases(tmp_path / "in", tmp_path / "out").cases] == [
        "labels/a.nii.gz", "stored_seg.nii.gz", "window.nii.gz",
    ]  # fmt: skip


def test_a_batch_with_label_maps_among_its_cts_ends_well(tmp_path: Path, verb: StandIn) -> None:
    write_ct(tmp_path / "in" / "imagesTr" / "a_0000.nii.gz")
    _label_map(tmp_path / "in" / "labelsTr" / "a.nii.gz", np.eye(16)[None].repeat(3, 0))
    done = batch(tmp_path / "in", tmp_path / "out")
    assert "1 done, 0 finished before, 0 failed, 1 left out" in done.stdout
    assert "'labelsTr/a.nii.gz' (a label map (whole numbers 0 to 1)" in done.output
