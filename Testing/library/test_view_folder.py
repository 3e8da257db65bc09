"""Nothing outside of the folder that a page may choose from: tried with harmless files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from ctenhance.core.volume import CTVolume
from ctenhance.runtime.errors import InputError
from ctenhance.view.folder import Folder, points_elsewhere


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a volume, a series' folder and a hidden file, beside one with what is not to be seen."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for place in (inside / "series", inside / "empty", outside):
        place.mkdir(parents=True)
    volume = CTVolume(np.random.default_rng(0).normal(0, 100, (2, 4, 4)).astype(np.float32))
    for path in (inside / "ct.nii.gz", inside / "ct.mha", inside / "ct.nrrd", outside / "secret.nii.gz"):
        volume.write(path)
    (inside / "series" / "1.dcm").write_bytes(b"1")
    (inside / "notes.txt").write_text("no image")
    (inside / ".hidden.nii").write_bytes(b"")
    (outside / "secret.txt").write_text("not to be read")
    return inside


def test_what_is_in_it_can_be_chosen(root: Path) -> None:
    folder = Folder(root)
    assert folder.path("ct.nii.gz") == root / "ct.nii.gz"
    assert folder.path("series") == root / "series"
    assert [one["name"] for one in folder.entries()] == ["empty", "series", "ct.mha", "ct.nii.gz", "ct.nrrd"]
    assert folder.entries("series") == []


@pytest.mark.parametrize(
    "name",
    [
        "../outside/secret.nii.gz",
        "series/../../outside/secret.nii.gz",
        "..",
        "/etc/hostname",
        "//etc/hostname",
        "%2e%2e/outside/secret.nii.gz",
        "..%2foutside%2fsecret.nii.gz",
        "..%252foutside%252fsecret.nii.gz",
        "..\\outside\\secret.nii.gz",
        "\u2025/outside/secret.nii.gz",
        "..\u2215outside\u2215secret.nii.gz",
        "ct.nii.gz\0.txt",
        "C:/Windows/win.ini",
        "file:///etc/hostname",
        "~/secret",
        "",
        "a" * 2000,
        "nothing.nii.gz",
        None,
        7,
        ["ct.nii.gz"],
        {"name": "ct.nii.gz"},
    ],
)
def test_nothing_else_is_given(root: Path, name: object) -> None:
    with pytest.raises(InputError, match="no such file"):
        Folder(root).path(name)


def test_links_may_not_lead_out(root: Path) -> None:
    outside = root.parent / "outside"
    (root / "link.nii.gz").symlink_to(outside / "secret.nii.gz")
    (root / "door").symlink_to(outside)
    (root / "series" / "2.dcm").symlink_to(outside / "secret.txt")
    (root / "broken.nii.gz").symlink_to(outside / "gone")
    (root / "circle").symlink_to(root / "circle")
    folder = Folder(root)
    for name in ("link.nii.gz", "door", "door/secret.nii.gz", "series", "broken.nii.gz", "circle"):
        with pytest.raises(InputError, match="no such file"):
            folder.path(name)
    listed = {one["name"] for one in folder.entries()}
    assert not listed & {"link.nii.gz", "door", "broken.nii.gz", "circle"}


def test_links_within_are_followed(root: Path) -> None:
    (root / "again.nii.gz").symlink_to(root / "ct.nii.gz")
    assert Folder(root).path("again.nii.gz") == root / "ct.nii.gz"


def test_a_root_that_is_a_link_works(root: Path, tmp_path: Path) -> None:
    (tmp_path / "entrance").symlink_to(root)
    assert Folder(tmp_path / "entrance").path("ct.nii.gz") == root / "ct.nii.gz"


def test_headers_may_not_name_other_files(root: Path) -> None:
    secret = root.parent / "outside" / "secret.txt"
    header = (root / "ct.mha").read_bytes().split(b"ElementDataFile")[0]
    (root / "trick.mha").write_bytes(header + f"ElementDataFile = {secret}\n".encode())
    (root / "list.mha").write_bytes(header + b"ElementDataFile = LIST\n" + os.fsencode(secret))
    nrrd = (root / "ct.nrrd").read_bytes().split(b"\n\n")[0]
    (root / "trick.nrrd").write_bytes(nrrd + f"\ndata file: {secret}\n".encode())
    (root / "trick2.nrrd").write_bytes(nrrd + f"\r\nDataFile:{secret}\r\n\r\n".encode())
    folder = Folder(root)
    for name in ("trick.mha", "list.mha", "trick.nrrd", "trick2.nrrd"):
        assert points_elsewhere(root / name)
        with pytest.raises(InputError, match="takes its voxels from another"):
            folder.path(name)
    assert not points_elsewhere(root / "ct.mha") and not points_elsewhere(root / "ct.nrrd")


def test_devices_and_pipes_are_refused(root: Path) -> None:
    os.mkfifo(root / "pipe.nii")
    with pytest.raises(InputError, match="no such file"):
        Folder(root).path("pipe.nii")
