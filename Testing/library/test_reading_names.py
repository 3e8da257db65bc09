"""An image file that is not what its name says is told what it is, and not that it is damaged."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from batch_folders import batch, verb
from synthetic_dicom import dataset, hounsfield, save

from ctenhance.core.volume import CTVolume
from ctenhance.runtime.errors import InputError

__all__ = ["verb"]


def written(folder: Path, suffix: str) -> bytes:
    path = folder / f"right{suffix}"
    if suffix == ".dcm":
        save(dataset(hounsfield()[0], (0, 0, 0)), path)
    else:
        CTVolume(hounsfield(4).astype("float32"), (0.8, 0.7, 2.5)).write(path)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("of", "packed", "name", "said"),
    [
        (".nii.gz", 1, "a.nii.gz", "it is packed twice (gzip within gzip)"),
        (".nii", 1, "a.nii", "it is packed (gzip), which its name does not say; call it .nii.gz"),
        (".nrrd", 0, "a.nii", "it is an NRRD file, which its name does not say; call it .nrrd"),
        (".nrrd", 1, "a.nii.gz", "it is an NRRD file, which its name does not say; unpack it, and call it"),
        (".mha", 0, "a.nii.gz", "it is a MetaImage file"),
        (".mha", 1, "a.mha", "it is packed (gzip), which its name does not say; unpack it first"),
        (".nii", 0, "a.nrrd", "it is a NIfTI file, which its name does not say; call it .nii"),
        (".dcm", 0, "a.nii", "it is a DICOM file, which its name does not say; call it .dcm"),
    ],
)
def test_what_a_file_is_comes_from_its_first_bytes(
    tmp_path: Path, of: str, packed: int, name: str, said: str
):
    content = written(tmp_path, of)
    for _ in range(packed):
        content = gzip.compress(content)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        CTVolume.read(tmp_path / name)
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.mha", "a.nrrd"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xef\xbb\xbf\n<!DOCTYPE HTML><title>Sign in</title>" + bytes(900), "it is a web page"),
        (b"<html><body>404</body></html>", "it is a web page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "git lfs pull"),
        (b"PK\x03\x04" + bytes(400), "it is an archive"),
        (bytes(257) + b"ustar" + bytes(400), "it is an archive"),
        (b"\xfd7zXZ\x00" + bytes(400), "it is an archive"),
        (b"BZh91AY" + bytes(400), "it is an archive"),
        (b"\x28\xb5\x2f\xfd" + bytes(400), "it is an archive"),
    ],
)
def test_what_is_no_image_at_all_is_called_what_it_is(tmp_path: Path, name: str, content: bytes, said: str):
    (tmp_path / name).write_bytes(gzip.compress(content) if name == "a.nii.gz" else content)
    with pytest.raises(InputError) as caught:
        CTVolume.read(tmp_path / name)
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii"])
def test_plain_nifti_is_read_under_either_name(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(written(tmp_path, ".nii"))
    assert CTVolume.read(tmp_path / name).array.shape == (4, 12, 16)


@pytest.mark.parametrize(
    ("of", "name", "said"),
    [
        (
            ".nii.gz",
            "chest.nii (1).gz",
            "is a NIfTI file packed by gzip, which its name does not say; call it",
        ),
        (".nii.gz", "chest.nii - Copy.gz", "call it .nii.gz"),
        (".nii.gz", "chest.gz", "call it .nii.gz"),
        (".nii", "chest.nii (1)", "is a NIfTI file, which its name does not say; call it .nii"),
        (".nrrd", "chest.nrrd (1)", "is an NRRD file, which its name does not say; call it .nrrd"),
        (".mha", "chest", "is a MetaImage file, which its name does not say; call it .mha"),
    ],
)
def test_copies_that_browsers_name_are_no_archives(tmp_path: Path, of: str, name: str, said: str):
    content = written(tmp_path, of)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(content)
    for place in (tmp_path / "in" / name, tmp_path / "in"):
        with pytest.raises(InputError) as caught:
            CTVolume.read(place)
        assert f"'{name}'" in str(caught.value) and said in str(caught.value)
        assert "archive" not in str(caught.value)


def test_a_batch_names_what_a_renamed_copy_is(tmp_path: Path, verb: object):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "chest.nii (1).gz").write_bytes(written(tmp_path, ".nii.gz"))
    (tmp_path / "in" / "chest.nii (2)").write_bytes(written(tmp_path, ".nii"))
    (tmp_path / "in" / "chest.nii.gz").write_bytes(written(tmp_path, ".nii.gz"))
    said = " ".join(batch(tmp_path / "in", tmp_path / "out").output.split())
    assert "1 done" in said and "'chest.nii (2)' (misnamed: it is a NIfTI file, which" in said
    assert "Left out, though perhaps meant: 'chest.nii (1).gz' (misnamed: it is a NIfTI" in said
