"""No room for what is written: one sentence, whatever library writes it, and nothing left behind."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLSLossless
from synthetic_dicom import hounsfield, write_series
from typer.testing import CliRunner

from ctenhance.cli import app
from ctenhance.core.volume import CTVolume
from ctenhance.runtime.errors import Cancelled, CTEnhanceError
from ctenhance.runtime.failures import sentence_and_code
from ctenhance.runtime.files import folder_when_done, replace_when_done, require_space


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
        (OSError(errno.EFBIG, os.strerror(errno.EFBIG)), "the file is larger than its disk"),
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
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=4096))
    with pytest.raises(CTEnhanceError, match="the disk is full"), replace_when_done(tmp_path / "a.nii"):
        raise LibraryError("the image could not be written")
    with pytest.raises(CTEnhanceError, match=r"the disk is full \(2 MB are needed and 0\.00391 MB free\)"):
        require_space(tmp_path / "a.h5", 2 << 20)
    with pytest.raises(Cancelled), replace_when_done(tmp_path / "a.nii"):
        raise Cancelled


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
