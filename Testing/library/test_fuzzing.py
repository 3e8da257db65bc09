"""Damaged and hostile files: a few trials of each parser, packed files that stand for far more than they are.

`benchmarks/fuzz.py` makes thousands.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from fuzzing import TARGETS, spoil, tried
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian
from synthetic_dicom import dataset, hounsfield
from test_dicom_codecs import LOSSLESS, UNSIGNED, compress, image

import ctenhance
from ctenhance.core.volume import CTVolume
from ctenhance.files.dicom.sizes import stream_size
from ctenhance.runtime.errors import InputError

TRIALS = 40


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_and_hostile_files_are_read_or_refused_in_a_sentence(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp(name)
    (folder / "seeds").mkdir()
    TARGETS[name].write(folder / "seeds")
    for sound in (folder / "seeds").iterdir():
        assert tried(TARGETS[name], sound) == "read"

    @settings(
        max_examples=TRIALS, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.integers(0, 1 << 40))
    def trial(number: int) -> None:
        spoil(TARGETS[name], folder / "seeds", folder / "work", number)
        assert tried(TARGETS[name], folder / "work") in ("read", "refused")

    trial()


@pytest.mark.parametrize("codec", [name for name in LOSSLESS if name != "RLE"])
def test_a_stream_of_another_size_than_the_header_is_refused(tmp_path: Path, codec: str) -> None:
    syntax, encode = LOSSLESS[codec]
    stream = bytes(encode(UNSIGNED))
    assert stream_size(stream) == UNSIGNED.shape
    larger = bytes(encode(np.tile(UNSIGNED, (4, 3))))
    compress(image("16 bits"), syntax, [larger]).save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with pytest.raises(InputError, match=r"are of 192 x 192 pixels, its header says 64 x 48"):
        ctenhance.read(tmp_path / "a.dcm")
    made = compress(image("16 bits"), syntax, [stream])
    made.Rows = made.Columns = 65535  # would be 8 GB
    made.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with pytest.raises(InputError, match="its header says 65535 x 65535"):
        ctenhance.read(tmp_path / "a.dcm")


@pytest.mark.parametrize(
    "damage", [b"", b"\xff", b"\xff\xd8\xff", b"\xff\xd8\xff\xc0\0\x08\x08", b"\xff\x4f\xff\x51\0"]
)
def test_streams_without_a_size(damage: bytes) -> None:
    assert stream_size(damage) is None


def test_a_deflated_data_set_that_stands_for_gigabytes_is_refused(tmp_path: Path) -> None:
    made = dataset(hounsfield()[0], (0, 0, 0))
    made.file_meta.TransferSyntaxUID = UID(DeflatedExplicitVRLittleEndian)
    made.save_as(tmp_path / "sound.dcm", enforce_file_format=True)
    assert ctenhance.read(tmp_path / "sound.dcm").array.shape[0] == 1
    data = (tmp_path / "sound.dcm").read_bytes()
    start = 144 + int.from_bytes(data[140:144], "little")
    inside = zlib.decompress(data[start:], -15)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(inside) + b"".join(packer.compress(bytes(1 << 20)) for _ in range(300))
    (tmp_path / "bomb.dcm").write_bytes(data[:start] + packed + packer.flush())
    assert (tmp_path / "bomb.dcm").stat().st_size < 1 << 20
    with pytest.raises(InputError, match=r"'bomb.dcm' unpacks to more than .* MB"):
        ctenhance.read(tmp_path / "bomb.dcm")


def test_a_packed_volume_with_far_more_behind_its_voxels_is_refused(tmp_path: Path) -> None:
    CTVolume(hounsfield(3)).write(tmp_path / "a.nii")
    with gzip.open(tmp_path / "a.nii.gz", "wb") as stream:
        stream.write((tmp_path / "a.nii").read_bytes())
        for _ in range(80):
            stream.write(bytes(1 << 20))
    assert (tmp_path / "a.nii.gz").stat().st_size < 1 << 20
    with pytest.raises(InputError, match="damaged"):
        ctenhance.read(tmp_path / "a.nii.gz")


def test_identifiers_that_look_like_paths_reach_no_file(tmp_path: Path) -> None:
    """They come back in what is derived from the series, and name nothing on the disk."""
    from batch_folders import batch, names

    evil = "../../../evil"
    (tmp_path / "in").mkdir()
    for number, uid in enumerate((evil, "/tmp/evil")):
        made = dataset(hounsfield(seed=number)[0], (0, 0, 0), SeriesDescription=evil, SeriesNumber=number + 1)
        with pydicom.config.disable_value_validation():
            made.SeriesInstanceUID, made.StudyInstanceUID = uid, uid
            made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = uid
            made.save_as(tmp_path / "in" / f"{number}.dcm", enforce_file_format=True)
    before = {path for path in tmp_path.parent.rglob("*") if tmp_path not in path.parents}
    batch(tmp_path / "in", tmp_path / "out", "--samples", 1)
    assert names(tmp_path / "out") == [
        f"in/series-{number}.{end}" for number in (1, 2) for end in ("nii.gz", "report.json")
    ]
    assert {path for path in tmp_path.parent.rglob("*") if tmp_path not in path.parents} == before


@pytest.mark.parametrize(
    ("name", "number"),
    [("dicom", 258), ("dicom", 2638), ("dicom", 101192), ("nifti", 100112), ("study", 152), ("study", 321)],
)
def test_what_once_failed_is_refused(tmp_path: Path, name: str, number: int) -> None:
    (tmp_path / "seeds").mkdir()
    TARGETS[name].write(tmp_path / "seeds")
    spoil(TARGETS[name], tmp_path / "seeds", tmp_path / "work", number)
    assert tried(TARGETS[name], tmp_path / "work") == "refused"
