"""NIfTI files whose header places the voxels twice, or not at all, or in no rectangular grid."""

from __future__ import annotations

import itertools
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 (its customary name)
from synthetic_dicom import hounsfield
from typer.testing import CliRunner

from ctenhance.cli import app
from ctenhance.core.volume import CTVolume
from ctenhance.runtime.errors import InputError
from nifti_header import SIZE, VOXEL, forms, sheared, turned, write

VALUES = hounsfield(SIZE[2], SIZE[1], SIZE[0])
STRAIGHT, MOVED = turned(0), turned(5, (10, 0, 0))
RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def matrix(volume: CTVolume) -> np.ndarray:
    """From voxel index to mm, RAS."""
    lps = np.eye(4)
    lps[:3, :3], lps[:3, 3] = volume.direction * volume.spacing, volume.origin
    return RAS @ lps


@pytest.mark.parametrize("codes", [(1, 1), (1, 2), (2, 1), (2, 2), (4, 1), (1, 4), (3, 2)])
def test_of_two_transforms_the_one_that_3d_slicer_takes(tmp_path: Path, codes: tuple[int, int]):
    path = write(tmp_path / "two.nii", VALUES, STRAIGHT, codes[0], MOVED, codes[1])
    volume = CTVolume.read(path)
    taken = "sform" if codes[1] == 1 else "qform"
    np.testing.assert_allclose(matrix(volume), MOVED if taken == "sform" else STRAIGHT, atol=1e-5)
    np.testing.assert_array_equal(volume.array, VALUES)
    (note,) = volume.meta["notes"]
    assert f"the {taken} was taken" in note
    # The corner that is furthest off is at the end of a row.
    assert "up to 10.2 mm apart (sform and qform)" in note
    # 3D Slicer's reader is ITK's.
    peer = CTVolume.from_sitk(sitk.ReadImage(path, imageIO="NiftiImageIO"))
    np.testing.assert_allclose(matrix(volume), matrix(peer), atol=1e-5)


@pytest.mark.parametrize("degrees", [0, 7])
@pytest.mark.parametrize("signs", list(itertools.product((1.0, -1.0), repeat=3)))
@pytest.mark.parametrize("before", [True, False])
def test_mirror_images_with_one_offset_are_read_as_3d_slicer_does(
    tmp_path: Path, degrees: float, signs: tuple[float, ...], before: bool
):
    qform, mirror = turned(degrees, (10, -20, 30)), np.diag([*signs, 1.0])
    sform = qform.copy()
    sform[:3, :3] = (mirror @ qform if before else qform @ mirror)[:3, :3]
    path = write(tmp_path / "two.nii", VALUES, qform, 1, sform, 2)
    volume = CTVolume.read(path)
    peer = CTVolume.from_sitk(sitk.ReadImage(path, imageIO="NiftiImageIO"))
    np.testing.assert_allclose(matrix(volume), matrix(peer), atol=1e-4)
    notes = volume.meta.get("notes", [])
    assert any("mirror images" in note for note in notes) == (np.prod(signs) < 0)
    assert bool(notes) == (min(signs) < 0)


def test_transforms_that_agree_need_no_note(tmp_path: Path):
    nearly = turned(5, (10 + 0.05 * VOXEL[0], 0, 0))
    for name, other in (("same", MOVED), ("nearly", nearly)):
        volume = CTVolume.read(write(tmp_path / f"{name}.nii", VALUES, MOVED, 1, other, 1))
        assert "notes" not in volume.meta
    far = turned(5, (10 + 0.15 * VOXEL[0], 0, 0))
    assert CTVolume.read(write(tmp_path / "far.nii", VALUES, MOVED, 1, far, 1)).meta["notes"]


@pytest.mark.parametrize("given", ["qform", "sform"])
@pytest.mark.parametrize("order", "<>")
def test_one_transform_alone(tmp_path: Path, given: str, order: str):
    settings: dict[str, Any] = {given: MOVED, f"{given}_code": 2, "order": order}
    volume = CTVolume.read(write(tmp_path / "one.nii", VALUES, **settings))
    np.testing.assert_allclose(matrix(volume), MOVED, atol=1e-5)
    assert "notes" not in volume.meta


def test_no_transform_is_said(tmp_path: Path):
    volume = CTVolume.read(write(tmp_path / "none.nii", VALUES))
    assert volume.spacing == pytest.approx(VOXEL)
    assert "does not say where the volume lies" in volume.meta["notes"][0]


@pytest.mark.parametrize("codes", [(1, 1), (1, 2), (2, 2), (0, 1), (0, 2)])
@pytest.mark.parametrize("degrees", [0.2, 0.5, 15])
def test_a_sheared_sform_is_refused(tmp_path: Path, codes: tuple[int, int], degrees: float):
    values = VALUES if degrees > 1 else hounsfield(120, 120, 40)  # whose ends are a tenth of a voxel off
    path = write(tmp_path / "tilted.nii", values, STRAIGHT, codes[0], sheared(degrees), codes[1])
    with pytest.raises(
        InputError, match=rf"not perpendicular \(its sform is sheared by {degrees:g} degrees\)"
    ):
        CTVolume.read(path)


@pytest.mark.parametrize(("code", "scale"), [(4, 1.0), (3, 1.0), (1, 1.08), (2, 0.95)])
def test_the_shear_of_a_registration_is_called_so(tmp_path: Path, code: int, scale: float):
    affine = sheared(5) @ np.diag([scale, scale, 1, 1])
    with pytest.raises(InputError, match=r"as an affine registration .* leaves it; .*from before") as refusal:
        CTVolume.read(write(tmp_path / "registered.nii", VALUES, STRAIGHT, 1, affine, code))
    assert "_Tilt" not in str(refusal.value)


@pytest.mark.parametrize(
    ("codes", "degrees"),
    [((1, 1), 0.01), ((1, 1), 0.1), ((2, 1), 0.2)],
)  # a sheared sform alone ITK does not read, nor does 3D Slicer
def test_a_shear_that_moves_no_voxel_is_noted(tmp_path: Path, codes: tuple[int, int], degrees: float):
    path = write(tmp_path / "tilted.nii", VALUES, STRAIGHT, codes[0], sheared(degrees), codes[1])
    volume = CTVolume.read(path)
    found = matrix(volume)
    corners = np.array([[i, j, k, 1] for i in (0, SIZE[0] - 1) for j in (0, SIZE[1] - 1) for k in (0, 11)])
    moved = float(np.linalg.norm((corners @ (found - sheared(degrees)).T)[:, :3], axis=1).max())
    assert moved <= 0.1 * min(VOXEL)
    axes = found[:3, :3] / np.linalg.norm(found[:3, :3], axis=0)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-6)
    (note,) = volume.meta["notes"]
    assert f"sheared by {degrees:g} degrees" in note
    assert float(note.split()[-2]) == pytest.approx(moved, rel=0.1)


def test_what_rounding_makes_of_a_matrix_is_no_shear(tmp_path: Path):
    for turn in range(1, 80, 7):
        rounded = np.round(turned(turn, (10, 0, 0)), 5)
        path = write(tmp_path / "rounded.nii", VALUES, sform=rounded, sform_code=1)
        assert "notes" not in CTVolume.read(path).meta


def test_two_voxel_sizes(tmp_path: Path):
    """ITK takes the size of one and the place of the other."""
    coarse = turned(0, voxel=(1, 1, 2))
    with pytest.raises(InputError, match=r"1 x 1 x 2 mm \(sform\) and 0\.7 x 0\.8 x 1\.5 mm \(pixdim\)"):
        CTVolume.read(write(tmp_path / "one.nii", VALUES, sform=coarse, sform_code=1))
    for scaled, code in ((turned(0, voxel=(0.8, 0.9, 1.6)), 2), (coarse, 4)):  # as a registration leaves it
        volume = CTVolume.read(write(tmp_path / "two.nii", VALUES, STRAIGHT, 1, scaled, code))
        np.testing.assert_allclose(matrix(volume), STRAIGHT, atol=1e-5)
        assert "the qform was taken" in volume.meta["notes"][0]
    for code in (1, 2):
        with pytest.raises(InputError, match=r"1 x 1 x 2 mm \(sform\) and 0\.7 x 0\.8 x 1\.5 mm \(pixdim\)"):
            CTVolume.read(write(tmp_path / "thinned.nii", VALUES, STRAIGHT, 1, coarse, code))


@pytest.mark.parametrize(("unit", "scale"), [(0, 1.0), (1, 1000.0), (2, 1.0), (3, 0.001)])
def test_units_apply_to_size_and_place(tmp_path: Path, unit: int, scale: float):
    stored = MOVED.copy()
    stored[:3] /= scale  # a header in metres, in micrometres
    voxel = tuple(one / scale for one in VOXEL)
    for name, settings in {
        "sform": {"sform": stored, "sform_code": 1},
        "qform": {"qform": stored, "qform_code": 1},
    }.items():
        volume = CTVolume.read(write(tmp_path / f"{name}.nii", VALUES, voxel=voxel, unit=unit, **settings))
        expected = stored.copy()
        expected[:3] *= scale
        np.testing.assert_allclose(matrix(volume), expected, rtol=1e-5, atol=1e-6 * scale)


@pytest.mark.parametrize("codes", [(1, 2), (1, 1), (0, 1), (1, 0)])
def test_what_is_written_says_one_place(tmp_path: Path, codes: tuple[int, int]):
    volume = CTVolume.read(write(tmp_path / "in.nii", VALUES, STRAIGHT, codes[0], MOVED, codes[1]))
    volume.write(tmp_path / "out.nii")
    qform, sform, *written = forms(tmp_path / "out.nii")
    np.testing.assert_allclose(qform, sform, atol=2e-5)
    np.testing.assert_allclose(sform, matrix(volume), atol=2e-5)
    assert min(written) > 0
    assert "notes" not in CTVolume.read(tmp_path / "out.nii").meta


def test_oblique_and_mirrored_grids_are_written_with_one_place(tmp_path: Path):
    turn = np.linalg.qr(np.random.default_rng(7).normal(size=(3, 3)))[0]
    for index, direction in enumerate((turn, turn * [1, 1, -1], np.diag([-1.0, 1, 1]))):
        CTVolume(VALUES, (0.7, 0.8, 1.5), (-200.5, 130.25, 900), direction).write(tmp_path / f"{index}.nii")
        qform, sform, *_ = forms(tmp_path / f"{index}.nii")
        np.testing.assert_allclose(qform, sform, atol=1e-4)
        assert "notes" not in CTVolume.read(tmp_path / f"{index}.nii").meta


def test_the_command_says_the_note_and_reports_it(tmp_path: Path):
    path = write(tmp_path / "two.nii", VALUES, STRAIGHT, 1, MOVED, 2)
    report = tmp_path / "report.json"
    arguments = [
        "enhance",
        "--samples",
        "1",
        str(path),
        str(tmp_path / "out.nii"),
        "--report",
        str(report),
        "--progress",
        "none",
    ]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "Note: 'two.nii': its header places the voxels twice, up to 10.2 mm apart" in done.output
    assert "the qform was taken" in report.read_text(encoding="utf-8")


def test_nifti_2_is_called_by_its_name(tmp_path: Path):
    header = bytearray(544)
    struct.pack_into("<i", header, 0, 540)
    header[4:12] = b"n+2\0\r\n\x1a\n"
    (tmp_path / "two.nii").write_bytes(bytes(header))
    with pytest.raises(InputError, match="NIfTI-2 cannot be read; save the volume as NIfTI-1 or NRRD"):
        CTVolume.read(tmp_path / "two.nii")


@pytest.mark.parametrize("size", [0.0, float("nan")])
def test_a_header_without_voxel_size(tmp_path: Path, size: float):
    def without(name: str, **settings: Any) -> Path:
        path = tmp_path / name
        header = bytearray(Path(write(path, VALUES, **settings)).read_bytes())
        struct.pack_into("<3f", header, 80, 0.7, 0.8, size)
        path.write_bytes(bytes(header))
        return path

    volume = CTVolume.read(without("both.nii", qform=STRAIGHT, qform_code=1, sform=MOVED, sform_code=1))
    np.testing.assert_allclose(matrix(volume), MOVED, atol=1e-5)
    assert "that of its sform was taken" in volume.meta["notes"][0]
    for name, settings in (("q.nii", {"qform": STRAIGHT, "qform_code": 1}), ("none.nii", {})):
        with pytest.raises(InputError, match="gives no voxel size"):
            CTVolume.read(without(name, **settings))


def test_millimetres_that_are_called_metres(tmp_path: Path):
    with pytest.raises(InputError, match=r"700 x 800 x 1500 mm, as its unit is the metre"):
        CTVolume.read(write(tmp_path / "m.nii", VALUES, MOVED, 1, MOVED, 1, unit=1))
