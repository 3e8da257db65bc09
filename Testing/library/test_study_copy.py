"""The header of a study's blinded copies, as panel and page read it, beside what SimpleITK reads."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 (its customary name)

from ctenhance.core.volume import CTVolume
from ctenhance.study.copy_header import CopyHeader, read_header
from ctenhance.study.images import write_copy


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of an oblique volume of 2 x 3 x 4 voxels [z, y, x]."""
    turned = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, -1.0]])
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    grid = CTVolume(array, (0.5, 0.7, 2.5), (-10.0, 20.5, 30.0), turned)
    write_copy(array, grid, tmp_path / "copy.mha")
    return tmp_path / "copy.mha"


def header_of(path: Path) -> CopyHeader:
    with path.open("rb") as stream:
        digest = hashlib.sha256()
        header = read_header(stream, digest)
        digest.update(stream.read())
    assert digest.hexdigest() == hashlib.sha256(path.read_bytes()).hexdigest()
    return header


def test_it_tells_the_grid_and_where_the_voxels_are(copy: Path) -> None:
    header, image = header_of(copy), sitk.ReadImage(str(copy))
    assert header.shape == image.GetSize()[::-1] and header.end == copy.stat().st_size
    assert (header.spacing, header.origin) == (image.GetSpacing(), image.GetOrigin())
    assert np.array_equal(header.direction.ravel(), image.GetDirection())
    voxels = np.fromfile(copy, "<i2", offset=header.start).reshape(header.shape)
    assert np.array_equal(voxels, sitk.GetArrayFromImage(image))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"MET_SHORT", b"MET_FLOAT"),
        (b"CompressedData = False", b"CompressedData = True"),
        (b"ElementDataFile = LOCAL", b"ElementDataFile = /etc/passwd"),
        (b"DimSize = 4 3 2", b"DimSize = 4 3"),
        (b"DimSize = 4 3 2", b"DimSize = 4 0 2"),
        (b"ElementSpacing = 0.5", b"ElementSpacing ="),
        (b"Offset = ", b"Offset = a "),
        (b"ObjectType", b"\xff"),
        (b"NDims = 3\n", b"no header\n"),
    ],
)
def test_anything_else_is_no_copy(copy: Path, before: bytes, after: bytes) -> None:
    content = copy.read_bytes()
    assert before in content
    copy.write_bytes(content.replace(before, after, 1))
    with copy.open("rb") as stream, pytest.raises(ValueError):
        read_header(stream, hashlib.sha256())


def test_an_endless_header_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "a.mha").write_bytes(b"A = 1\n" * 10_000)
    with (tmp_path / "a.mha").open("rb") as stream, pytest.raises(ValueError, match="another kind"):
        read_header(stream, hashlib.sha256())
