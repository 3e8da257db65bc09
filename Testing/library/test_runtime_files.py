"""Output files: whole or not there, and refused before the work begins."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctenhance.runtime.errors import CTEnhanceError, InputError
from ctenhance.runtime.files import (
    check_output,
    check_output_folder,
    replace_when_done,
    stem_of,
    suffix_of,
    write_text,
)

as_root = pytest.mark.skipif(
    hasattr(os, "geteuid") and os.geteuid() == 0, reason="the superuser may write everywhere"
)


@pytest.mark.parametrize(
    ("name", "stem", "suffix"),
    [
        ("a.nii.gz", "a", ".nii.gz"),
        ("a.b.NII.GZ", "a.b", ".nii.gz"),
        ("scan.1.2.mha", "scan.1.2", ".mha"),
        ("plain", "plain", ""),
        (".hidden", ".hidden", ""),
        ("x.gz", "x", ".gz"),
    ],
)
def test_suffix_and_stem(name: str, stem: str, suffix: str) -> None:
    assert (stem_of(f"folder.d/{name}"), suffix_of(name)) == (stem, suffix)


@given(st.from_regex(r"[a-z. ]{1,12}(\.nii)?(\.gz)?", fullmatch=True).filter(lambda name: name.strip(" .")))
def test_suffix_and_stem_make_the_name(name: str) -> None:
    assert stem_of(name) + suffix_of(name) == name


def test_replace_when_done_writes_whole_file(tmp_path: Path) -> None:
    target = tmp_path / "ct.v1.nii.gz"
    target.write_text("old")
    with replace_when_done(target) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.endswith(".nii.gz") and temporary.name.startswith(".")
        temporary.write_text("new")
        assert target.read_text(encoding="utf-8") == "old"
    assert target.read_text(encoding="utf-8") == "new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_replace_when_done_keeps_the_old_file_on_failure(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "ct.mha"
    target.write_text("old")
    with pytest.raises(error), replace_when_done(target) as temporary:
        temporary.write_text("half")
        raise error
    assert target.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_replace_when_done_keeps_the_first_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), replace_when_done(tmp_path / "a.mha"):
        raise ZeroDivisionError  # before anything was written
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    with pytest.raises(CTEnhanceError, match="the disk is full"), replace_when_done(path) as half:
        half.write_text("{")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(PermissionError), replace_when_done(path):
        raise PermissionError(errno.EACCES, "of another file")


def test_replace_when_done_two_at_once(tmp_path: Path) -> None:
    target = tmp_path / "a.mha"
    with replace_when_done(target) as one, replace_when_done(target) as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert target.read_text(encoding="utf-8") == "one"  # the outer block ends last
    assert list(tmp_path.iterdir()) == [target]


def test_replace_when_done_says_what_it_could_not_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"), replace_when_done(tmp_path / "no" / "a.mha"):
        pass
    (tmp_path / "taken.mha").mkdir()
    taken = pytest.raises(CTEnhanceError, match=r"Cannot write .*taken\.mha")
    with taken, replace_when_done(tmp_path / "taken.mha") as temporary:
        temporary.write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == ["taken.mha"]


def test_long_names_fit(tmp_path: Path) -> None:
    target = tmp_path / f"{'ä' * 120}.nii.gz"
    write_text(target, "x")
    assert target.exists()


def test_write_text_is_utf8_with_lf(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "µ\nb\n")
    assert (tmp_path / "a.txt").read_bytes() == "µ\nb\n".encode()


def test_check_output_accepts(tmp_path: Path) -> None:
    assert check_output(tmp_path / "a.NII.GZ", (".nii", ".nii.gz")) == tmp_path / "a.NII.GZ"
    assert check_output(tmp_path / "a.any") == tmp_path / "a.any"


def test_check_output_refuses(tmp_path: Path) -> None:
    source = tmp_path / "in.mha"
    source.write_text("x")
    link = tmp_path / "link.mha"
    link.symlink_to(source)
    for path, sentence in [
        (tmp_path / "a.png", r"must end in \.nii or \.mha"),
        (tmp_path / "no" / "a.mha", "does not exist"),
        (source, "is the input itself"),
        (link, "is the input itself"),
        (tmp_path / "sub" / ".." / "in.mha", "does not exist"),
    ]:
        with pytest.raises(InputError, match=sentence):
            check_output(path, (".nii", ".mha"), [source])
    (tmp_path / "folder.mha").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        check_output(tmp_path / "folder.mha")


@as_root
def test_check_output_needs_permission(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o555)
    with pytest.raises(InputError, match="no permission"):
        check_output(tmp_path / "locked" / "a.mha")
    with pytest.raises(InputError, match="no permission"):
        check_output_folder(tmp_path / "locked")
    (tmp_path / "a.mha").touch(mode=0o444)
    with pytest.raises(InputError, match="no permission"):
        check_output(tmp_path / "a.mha")


def test_names_that_no_program_of_c_can_open_are_refused(tmp_path: Path) -> None:
    latin = os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller.nii.gz")
    with pytest.raises(InputError, match="other than UTF-8; rename"):
        check_output(latin)
    with pytest.raises(InputError, match="longer than 255 bytes"):
        check_output(tmp_path / ("ü" * 125 + ".nii.gz"))


def test_check_output_folder(tmp_path: Path) -> None:
    assert check_output_folder(tmp_path / "a" / "b").is_dir()
    assert check_output_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="it is a file"):
        check_output_folder(tmp_path / "file")
    with pytest.raises(InputError, match="Cannot make the folder"):
        check_output_folder(tmp_path / "file" / "below")
