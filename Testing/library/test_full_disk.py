"""No room for what is written: one sentence, whatever library writes it, and nothing left behind."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
from disks import remount, small_disk
from enhance_body import body
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLSLossless
from reconstruct_scan import measured
from synthetic_dicom import hounsfield, write_series
from typer.testing import CliRunner

from ctenhance.cli import app
from ctenhance.core.report import write_report
from ctenhance.core.volume import CTVolume
from ctenhance.files import volumes
from ctenhance.files.dicom import writing as dicom_writing
from ctenhance.runtime.errors import Cancelled, CTEnhanceError
from ctenhance.runtime.failures import sentence_and_code
from ctenhance.runtime.files import folder_when_done, replace_when_done, require_space

__all__ = ["small_disk"]


class LibraryError(RuntimeError):
    """As h5py, safetensors, ITK and SQLite raise errors of their own."""


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), "the disk is full"),
        (LibraryError("I/O error: No space left on device (os error 28)"), "the disk is full"),
        (
            OSError("unable to close, errno = 28, error message = 'No space left on device'"),
            "the disk is full",
        ),
        (LibraryError("database or disk is full"), "the disk is full"),
        (OSError(errno.EFBIG, os.strerror(errno.EFBIG)), "takes no file so large"),
        (OSError("unable to write, errno = 27, error message = 'File too large'"), "takes no file so large"),
    ],
    ids=str,
)
def test_want_of_space_is_one_sentence_whatever_library_writes(
    tmp_path: Path, error: Exception, why: str
) -> None:
    for writing in (replace_when_done(tmp_path / "a.h5"), folder_when_done(tmp_path / "series")):
        with pytest.raises(CTEnhanceError, match=f"Cannot write '.*{why}") as caught, writing:
            raise LibraryError("it did not work") from error
        assert "unexpected" not in sentence_and_code(caught.value)[0]
    assert list(tmp_path.iterdir()) == []
    # And where nobody has caught it.
    try:
        raise LibraryError("it did not work") from error
    except LibraryError as raised:
        assert why in sentence_and_code(raised)[0] and sentence_and_code(raised)[1] == 1


def test_a_full_disk_is_noticed_where_the_library_does_not_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LibraryError), replace_when_done(tmp_path / "a.nii"):
        raise LibraryError("the image could not be written")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=1 << 30, free=4096))
    with pytest.raises(CTEnhanceError, match="the disk is full"), replace_when_done(tmp_path / "a.nii"):
        raise LibraryError("the image could not be written")
    with pytest.raises(CTEnhanceError, match=r"the disk is full \(2 MB are needed and 0\.00391 MB free\)"):
        require_space(tmp_path / "a.h5", 2 << 20)
    # A file system of no blocks at all (ramfs) does not tell.
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=0, free=0))
    require_space(tmp_path / "a.h5", 2 << 20)
    with pytest.raises(LibraryError), replace_when_done(tmp_path / "a.nii"):
        raise LibraryError("the image could not be written")
    with pytest.raises(Cancelled), replace_when_done(tmp_path / "a.nii"):
        raise Cancelled


@pytest.mark.parametrize(
    "name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.mhd", "a.ctproj.h5", "a.json", "series"]
)
def test_a_file_too_large_for_its_file_system_is_no_full_disk(tmp_path: Path, name: str) -> None:
    """As on FAT32, whose files end at 4 GB: none of the writers' libraries says so itself but pydicom's."""
    resource = pytest.importorskip("resource")
    noise = np.random.default_rng(1).normal(0, 300, (6, 96, 96)).astype(np.float32)
    ct, scan = CTVolume(noise), measured()
    writers: dict[str, Callable[[], object]] = {
        "a.json": lambda: write_report(tmp_path / name, {"values": noise.tolist()}),
        "a.ctproj.h5": lambda: scan.write(tmp_path / name),
        "series": lambda: dicom_writing.write_series(CTVolume(np.round(noise)), tmp_path / name),
    }
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (15_000, hard))
    try:
        with pytest.raises(CTEnhanceError) as caught:
            writers.get(name, lambda: ct.write(tmp_path / name))()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    sentence = str(caught.value)
    assert sentence.startswith(f"Cannot write '{tmp_path / name}': its file system, or a limit")
    assert sentence.endswith("choose a folder on another disk.") and "full" not in sentence
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_ends_short_for_no_known_reason_has_one_full_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(_image: object, path: str, **_named: object) -> None:
        Path(path).write_bytes(b"short")

    monkeypatch.setattr(volumes.sitk, "WriteImage", short)
    with pytest.raises(CTEnhanceError, match=r"did not come out whole; check .* has room\.$"):
        CTVolume(hounsfield(2)).write(tmp_path / "a.nii")
    assert list(tmp_path.iterdir()) == []


def test_a_full_temporary_folder_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The JPEG families are decoded by way of a file there."""

    def full(*_args: object, **_settings: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_series(tmp_path)
    for path in tmp_path.iterdir():
        made = pydicom.dcmread(path)
        made.file_meta.TransferSyntaxUID = JPEGLSLossless
        made.PixelData = encapsulate([bytes(64)])
        made["PixelData"].VR = "OB"
        made.save_as(path)
    monkeypatch.setattr(pydicom.dataset.FileDataset, "save_as", full)
    with pytest.raises(CTEnhanceError, match=r"Cannot write to the folder '.*the disk is full"):
        CTVolume.read(tmp_path)


def test_a_full_disk_leaves_no_part_of_a_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save, written = pydicom.dataset.FileDataset.save_as, []

    def until_full(dataset: pydicom.FileDataset, path: Path, **settings: object) -> None:
        if len(written) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(path)
        save(dataset, path, **settings)

    monkeypatch.setattr(pydicom.dataset.FileDataset, "save_as", until_full)
    CTVolume(hounsfield(4)).write(tmp_path / "a.nii")
    arguments = ["dicom", str(tmp_path / "a.nii"), str(tmp_path / "out"), "--progress", "none"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1 and len(written) == 2
    assert f"Cannot write '{tmp_path / 'out'}': the disk is full; free some space" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii"]


def test_a_name_too_long_for_a_file_is_told_wherever_it_is_met(tmp_path: Path) -> None:
    too_long = tmp_path / f"{300 * 'x'}.h5"
    with pytest.raises(OSError) as caught:
        too_long.open()
    sentence, code = sentence_and_code(caught.value)
    assert sentence == f"The name '{too_long}' is too long for a file; choose a shorter one." and code == 2


VERBS = {
    "degrade": ("degrade", "ct.nii", "DISK/d.nii.gz"),
    "enhance": ("enhance", "ct.nii", "DISK/e.nii.gz", "--strength", "0"),
    "convert": ("convert", "ct.nii", "DISK/c.nii"),
    "compare": ("compare", "ct.nii", "ct.nii", "--figure", "DISK/f.png"),
    "project": ("project", "ct.nii", "DISK/p.ctproj.h5", "--views", "300"),
    "reconstruct": ("reconstruct", "scan.ctproj.h5", "DISK/r.nii.gz", "--method", "fbp", "--matrix", "512"),
    "dicom write": ("dicom", "write", "ct.nii", "DISK/series"),
    "batch": ("batch", "cts", "DISK/many", "--verb", "degrade", "--workers", "0"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_says_once_that_a_disk_is_full_or_read_only(
    tmp_path: Path, small_disk: Path, capfd: pytest.CaptureFixture[str], verb: str
) -> None:
    """Also what the libraries would say on the terminal is no second sentence."""
    monotonous = np.tile(body(1, 20, 1).array, (12, 1, 1))
    noise = np.random.default_rng(1).normal(0, 9, monotonous.shape).astype(np.float32)
    ct = CTVolume(np.round(monotonous + noise), spacing=(0.8, 0.8, 2.0))
    ct.write(tmp_path / "ct.nii")
    (tmp_path / "cts").mkdir()
    shutil.copy(tmp_path / "ct.nii", tmp_path / "cts")
    if verb == "reconstruct":
        measured().write(tmp_path / "scan.ctproj.h5")
    line = [str(tmp_path / one) if (tmp_path / one).exists() else one for one in VERBS[verb]]
    line = [one.replace("DISK", str(small_disk)) for one in line]
    (small_disk / "filling").write_bytes(bytes(250_000))
    for options, code, said in (("rw", 1, "the disk is full"), ("ro", 2, "read-only")):
        remount(small_disk, options)
        capfd.readouterr()
        done = CliRunner().invoke(app, [*line, "--progress", "none"])
        assert done.exit_code == code, done.output
        lines = [one for one in done.stderr.splitlines() if not one.startswith(("Note:", "Warning:"))]
        assert len(lines) == 1 and lines[0].startswith("Error: ") and said in lines[0].lower(), done.stderr
        assert capfd.readouterr() == ("", "")
        left = {path.name for path in small_disk.iterdir()} - {"filling"}
        assert left <= ({"many"} if verb == "batch" else set())
