"""What a page is to look at: shown as soon as it is read, while its values are still being checked."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import struct
from pathlib import Path

import numpy as np
import psutil
import pytest
from synthetic_dicom import hounsfield

from ctenhance.core.volume import CTVolume
from ctenhance.core.windows import PRESETS
from ctenhance.files import ct
from ctenhance.files.volumes import StoredVolume
from ctenhance.runtime.errors import InputError
from ctenhance.view.opening import Opened, Subject, opened
from nifti_header import SIZE, VOXEL, turned, write

VALUES = hounsfield(SIZE[2], SIZE[1], SIZE[0])
MATRIX = turned(12, (10, -20, 30))


def packed(
    path: Path, values: np.ndarray = VALUES, at: int = 0, put: bytes = b"", **settings: object
) -> Path:
    """Write a .nii.gz file, `put` into its bytes from `at` on."""
    settings = {"qform": MATRIX, "qform_code": 1, **settings}
    plain = write(path.with_name("plain.nii"), values, **settings)  # type: ignore[arg-type]
    data = bytearray(plain.read_bytes())
    data[at : at + len(put)] = put
    path.write_bytes(gzip.compress(bytes(data), 1))
    plain.unlink()
    return path


def same(one: CTVolume | StoredVolume, other: CTVolume) -> None:
    np.testing.assert_array_equal(np.asarray(one.array, np.float32), other.array)
    assert (one.spacing, one.origin) == (other.spacing, other.origin)
    np.testing.assert_array_equal(one.direction, other.direction)
    assert [*one.meta.get("notes", []), *ct.doubts_of(one)] == other.meta.get("notes", [])


@pytest.mark.parametrize(
    "settings",
    [{}, {"unit": 0}, {"sform": turned(5), "sform_code": 1}, {"qform_code": 0}, {"voxel": (0.4, 0.5, 5)}],
)
def test_voxels_that_stand_in_the_unpacked_file_are_those_that_are_read(tmp_path: Path, settings: dict):
    path, place = packed(tmp_path / "ct.nii.gz", **settings), tmp_path / "place.nii"
    found = ct.read_or_map(path, place)
    assert isinstance(found, StoredVolume)
    assert found.array.dtype == np.int16 and not found.array.flags.writeable
    raw = np.fromfile(found.file, "<i2", found.array.size, offset=found.start)
    np.testing.assert_array_equal(raw.reshape(found.array.shape), VALUES)
    same(found, CTVolume.read(path))


@pytest.mark.parametrize(
    ("at", "put"),
    [
        (112, struct.pack("<2f", 1, -3)),  # an offset
        (112, struct.pack("<2f", 2, 0)),  # a slope
        (40, struct.pack("<8h", 4, *SIZE, 1, 1, 1, 1)),  # four axes
        (70, struct.pack("<2h", 512, 16)),  # uint16
        (108, struct.pack("<f", 368)),  # voxels that begin later, and end later than the file
    ],
)
def test_others_are_converted_or_refused_as_ever(tmp_path: Path, at: int, put: bytes):
    path, place = packed(tmp_path / "ct.nii.gz", at=at, put=put), tmp_path / "place.nii"
    try:
        expected = CTVolume.read(path)
    except InputError as error:
        with pytest.raises(InputError) as refused:
            ct.read_or_map(path, place)
        assert str(refused.value) == str(error)
        return
    same(ct.read_or_map(path, place), expected)


def test_other_files_are_read_as_ever(tmp_path: Path):
    volume = CTVolume(VALUES.astype(np.float32) + 0.25, VOXEL)
    paths = [tmp_path / f"ct.{kind}" for kind in ("nii", "nii.gz", "nrrd", "mha")]
    for path in paths:
        volume.write(path)
    paths.append(packed(tmp_path / "big.nii.gz", order=">"))
    for number, path in enumerate(paths):
        found = ct.read_or_map(path, tmp_path / f"{number}.nii")
        assert isinstance(found, CTVolume)
        same(found, CTVolume.read(path))


def test_what_is_wrong_with_values_is_found_in_whole_numbers_too():
    stored = np.full((24, 64, 64), 30, np.int16) + np.arange(24, dtype=np.int16)[:, None, None]
    # Of which differences are beyond int16.
    stored[:, 20:40:2, 20:40] = 30000
    stored[:, 21:40:2, 20:40] = -2900
    stored[:, :8, :8] = -1000
    stored[::2, 44:60, 8:40] += 40
    notes = [
        ct.doubts_of(CTVolume(stored.astype(np.float32))),
        ct.doubts_of(StoredVolume(Path(), 0, stored, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3), {})),
    ]
    assert notes[0] == notes[1]
    assert any("every second slice" in note for note in notes[0])


def alternating(path: Path) -> Path:
    values = np.tile(VALUES, (2, 3, 3))
    values[::2, 20:60, 20:60] += 80
    CTVolume(values.astype(np.float32), VOXEL).write(path)
    return path


def run(folder: Path, what: Subject) -> tuple[Opened, list[str]]:
    async def both() -> tuple[Opened, list[str]]:
        found = await opened(what, folder)
        assert found.doubts is not None
        return found, await found.doubts

    return asyncio.run(both())


@pytest.mark.parametrize(("inside", "window"), [(40.0, PRESETS["soft"]), (-800.0, PRESETS["lung"])])
def test_the_first_window_is_that_of_the_middle_slice(
    tmp_path: Path, inside: float, window: tuple[float, float]
):
    random = np.random.default_rng(0)
    values = random.normal(-1000, 5, (9, 64, 64))
    values[:, 8:56, 8:56] = random.normal(40, 15, (9, 48, 48))
    values[:, 16:48, 16:48] = random.normal(inside, 15, (9, 32, 32))
    values[4:5, :8] = -3024  # outside the field of view
    CTVolume(values.round().astype(np.float32)).write(tmp_path / "ct.nii.gz")
    found, _doubts = run(tmp_path, Subject(tmp_path / "ct.nii.gz"))
    assert found.window == window
    assert json.loads(json.dumps(found.to_json()))["window"] == list(window)


def readers() -> list[psutil.Process]:
    children = psutil.Process().children()
    return [one for one in children if "ctenhance.view.opening" in one.cmdline()]


def test_notes_on_the_values_come_after_the_volume(tmp_path: Path):
    path = alternating(tmp_path / "ct.nii.gz")
    found, doubts = run(tmp_path, Subject(path))
    assert found.notes == ()
    assert doubts == CTVolume.read(path).meta["notes"]
    assert any("every second slice" in doubt for doubt in doubts)


def test_what_is_no_ct_is_never_shown_as_one(tmp_path: Path):
    normalised = tmp_path / "unit.nii.gz"
    CTVolume(np.random.default_rng(0).random((8, 32, 32)).astype(np.float32)).write(normalised)
    whole = packed(tmp_path / "mr.nii.gz", np.abs(VALUES))
    for path in (normalised, whole):
        with pytest.raises(InputError):
            CTVolume.read(path)
        found, doubts = run(tmp_path, Subject(path))
        assert not found.volumes["before"].hounsfield and doubts == []
        shown = found.volumes["before"].array()
        np.testing.assert_array_equal(shown, CTVolume.read(path, check_hu=False).array)


def test_one_that_is_refused_stops_the_other(tmp_path: Path):
    good, cut = alternating(tmp_path / "ct.nii.gz"), tmp_path / "cut.nii.gz"
    cut.write_bytes(good.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"cut\.nii\.gz"):
        run(tmp_path, Subject(good, cut))
    assert readers() == []


def test_a_check_that_ends_early_is_said(tmp_path: Path):
    path = alternating(tmp_path / "ct.nii.gz")

    async def ended() -> list[str]:
        found = await opened(Subject(path), tmp_path)
        for one in readers():
            one.kill()
        assert found.doubts is not None
        return await found.doubts

    doubts = asyncio.run(ended())
    # It may have been done by then.
    said = "could not be checked to the end" in doubts[0]
    assert said or doubts == CTVolume.read(path).meta["notes"]
    assert os.path.exists(path) and readers() == []
