"""MRML volumes <-> CTVolume and the worker's files: no voxel and no millimetre is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 (its customary name)
import slicer
import vtk
from vtk.util import numpy_support

import nifti_header
from ctenhance.core.volume import CTVolume
from ctenhance.runtime.errors import CTEnhanceError, InputError
from CTEnhanceLib.enhance import job
from CTEnhanceLib.process import transfer
from CTEnhanceLib.scene import volumes


def oblique() -> np.ndarray:
    """Return a rotation about a slanted axis."""
    transform = vtk.vtkTransform()
    transform.RotateWXYZ(25, 1, 2, 3)
    return slicer.util.arrayFromVTKMatrix(transform.GetMatrix())[:3, :3]


def ct(dtype: Any = np.int16, direction: np.ndarray | None = None) -> CTVolume:
    values = np.random.default_rng(0).integers(-1000, 2000, (5, 6, 7)).astype(dtype)
    grid = oblique() if direction is None else direction
    return CTVolume(values.astype(np.float32), (0.7, 0.8, 2.5), (10.0, -20.0, 30.0), grid)


def moved(node: Any, matrix: np.ndarray) -> Any:
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    slicer.util.updateTransformMatrixFromArray(transform, matrix)
    node.SetAndObserveTransformNodeID(transform.GetID())
    return transform


def loaded(path: Path) -> Any:
    """Return a node as the application loads it from a file."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
    storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(str(path))
    assert storage.ReadData(node)
    node.SetAndObserveStorageNodeID(storage.GetID())
    return node


def test_round_trip_keeps_all() -> None:
    volume = ct()
    node = volumes.nodeFromVolume(volume, "CT")
    again = volumes.volumeFromNode(node)
    assert slicer.util.arrayFromVolume(node).dtype == np.int16
    assert np.array_equal(again.array, volume.array)
    assert again.spacing == pytest.approx(volume.spacing) and again.origin == pytest.approx(volume.origin)
    assert np.allclose(again.direction, volume.direction)


def test_voxels_stand_where_sitk_says() -> None:
    volume = ct()
    node = volumes.nodeFromVolume(volume, "CT")
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    ras = slicer.util.arrayFromVTKMatrix(matrix) @ [3, 2, 4, 1]
    lps = volume.to_sitk().TransformIndexToPhysicalPoint((3, 2, 4))
    assert np.allclose(ras[:3], np.array(lps) * [-1, -1, 1])


def test_fractions_become_float() -> None:
    volume = ct().with_array(ct().array + np.float32(0.25))
    node = volumes.nodeFromVolume(volume, "CT")
    assert slicer.util.arrayFromVolume(node).dtype == np.float32
    assert np.array_equal(volumes.volumeFromNode(node).array, volume.array)


def test_linear_transform_is_applied_as_hardening_would() -> None:
    node = volumes.nodeFromVolume(ct(), "CT")
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = oblique().T, (5, 6, 7)
    moved(node, matrix)
    seen = volumes.volumeFromNode(node)
    node.HardenTransform()
    hardened = volumes.volumeFromNode(node)
    assert np.allclose(seen.origin, hardened.origin) and np.allclose(seen.direction, hardened.direction)
    assert np.array_equal(seen.array, hardened.array)


def test_bending_transform_is_refused() -> None:
    node = volumes.nodeFromVolume(ct(), "CT")
    grid = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode")
    bend = slicer.vtkOrientedBSplineTransform()
    coefficients = vtk.vtkImageData()
    coefficients.SetDimensions(4, 4, 4)
    coefficients.AllocateScalars(vtk.VTK_DOUBLE, 3)
    numpy_support.vtk_to_numpy(coefficients.GetPointData().GetScalars())[:] = 1.0
    bend.SetCoefficientData(coefficients)
    grid.SetAndObserveTransformFromParent(bend)
    node.SetAndObserveTransformNodeID(grid.GetID())
    with pytest.raises(InputError, match="'CT' stands under a transform that bends"):
        volumes.volumeFromNode(node)


def test_colour_and_empty_nodes_are_refused() -> None:
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    with pytest.raises(InputError, match="'empty' holds no image"):
        volumes.volumeFromNode(empty)
    image = vtk.vtkImageData()
    image.SetDimensions(2, 2, 2)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 3)
    empty.SetAndObserveImageData(image)
    with pytest.raises(InputError, match="colour image"):
        volumes.volumeFromNode(empty)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_meta_image_is_read_by_others(dtype: Any, tmp_path: Path) -> None:
    node = volumes.nodeFromVolume(ct(), "CT")
    values = (np.arange(5 * 6 * 7) % 100).reshape(5, 6, 7).astype(dtype)
    slicer.util.updateVolumeFromArray(node, values)
    assert list(transfer.writeMetaImage(node, tmp_path / "ct.mha"))[-1] == 1.0
    image = sitk.ReadImage(str(tmp_path / "ct.mha"))
    expected = ct().to_sitk()
    assert np.array_equal(sitk.GetArrayFromImage(image), values)
    assert np.allclose(image.GetOrigin(), expected.GetOrigin())
    assert np.allclose(image.GetSpacing(), expected.GetSpacing())
    assert np.allclose(image.GetDirection(), expected.GetDirection())


@pytest.mark.parametrize("add", [0, 0.5])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_result_file_is_read(add: float, suffix: str, tmp_path: Path) -> None:
    volume = ct().with_array(ct().array + np.float32(add))
    volume.write(tmp_path / f"out{suffix}")
    loaded, fractions = read(tmp_path / f"out{suffix}")
    assert np.array_equal(loaded.array, volume.array) and fractions[-1] == 1.0
    node = volumes.nodeFromVolume(volume, "CT")
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    assert np.allclose(loaded.ijkToRAS, slicer.util.arrayFromVTKMatrix(matrix), atol=1e-4)


def test_broken_result_file_is_said(tmp_path: Path) -> None:
    ct().write(tmp_path / "out.nii")
    whole = (tmp_path / "out.nii").read_bytes()
    for broken in (whole[:-100], whole[:200], b""):
        (tmp_path / "out.nii").write_bytes(broken)
        with pytest.raises(CTEnhanceError, match="cannot be read"):
            read(tmp_path / "out.nii")


def read(path: Path) -> tuple[transfer.LoadedVolume, list[float]]:
    """Run the reader to its end; return the volume and the fractions."""
    steps, fractions = transfer.readNifti(path), []
    while True:
        try:
            fractions.append(next(steps))
        except StopIteration as end:
            return end.value, fractions


@pytest.mark.parametrize("codes", [(1, 1), (1, 2), (2, 1), (2, 3), (0, 1), (1, 0)])
def test_a_nifti_with_two_places_is_where_the_command_reads_it(
    tmp_path: Path, codes: tuple[int, int]
) -> None:
    values = np.random.default_rng(0).integers(-1000, 1000, nifti_header.SIZE[::-1])
    two = nifti_header.turned(0), nifti_header.turned(5, (10, 0, 0))
    path = nifti_header.write(tmp_path / "ct.nii", values, two[0], codes[0], two[1], codes[1])
    node = loaded(path)
    here, command = volumes.volumeFromNode(node), CTVolume.read(path, check_hu=False)
    assert np.allclose(here.spacing, command.spacing, atol=1e-4)
    assert np.allclose(here.origin, command.origin, atol=1e-4)
    assert np.allclose(here.direction, command.direction, atol=1e-4)
    notes = volumes.gridNotes(node)
    assert [note.split(": ", 1)[1].rstrip(".") for note in notes] == command.meta.get("notes", [])
    assert bool(notes) == (min(codes) > 0) and all(note.startswith("'CT': its header") for note in notes)
    assert job.EnhanceJob(node, None).remarks() == notes
    # Moved by hand, the node is where it was put, whatever the file says.
    node.SetOrigin(1, 2, 3)
    assert volumes.gridNotes(node) == []


def test_a_sheared_nifti_is_no_input(tmp_path: Path) -> None:
    """The application shows it unsheared, by its qform, without a word."""
    values = np.random.default_rng(0).integers(-1000, 1000, nifti_header.SIZE[::-1])
    straight, sheared = nifti_header.turned(0), nifti_header.sheared(5)
    node = loaded(nifti_header.write(tmp_path / "ct.nii", values, straight, 1, sheared, 1))
    with pytest.raises(InputError, match="'CT': the axes of its grid are not perpendicular"):
        volumes.requireScalarVolume(node)
    assert "not perpendicular" in job.problem(node, None)
    (tmp_path / "ct.nii").unlink()
    volumes.requireScalarVolume(node)


def test_a_result_is_read_where_its_two_transforms_say(tmp_path: Path) -> None:
    volume = ct(np.float32)
    volume.write(tmp_path / "out.nii")
    steps = transfer.readNifti(tmp_path / "out.nii")
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result = end.value
            break
    lps = volume.to_sitk().TransformIndexToPhysicalPoint((3, 2, 4))
    assert np.allclose((result.ijkToRAS @ [3, 2, 4, 1])[:3], np.array(lps) * [-1, -1, 1], atol=1e-4)
    values = np.zeros(nifti_header.SIZE[::-1])
    nifti_header.write(tmp_path / "sheared.nii", values, sform=nifti_header.sheared(5), sform_code=1)
    with pytest.raises(CTEnhanceError, match="cannot be read"):
        list(transfer.readNifti(tmp_path / "sheared.nii"))
