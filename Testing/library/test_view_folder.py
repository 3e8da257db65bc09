"""Nothing outside of the folder that a page may choose from: tried with harmless files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ctenhance.core.volume import CTVolume
from ctenhance.runtime.errors import InputError
from ctenhance.view.folder import Folder, points_elsewhere

pinning = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="files are pinned on Linux only")


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
        "\ud800",
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
    # As ITK reads headers: lines may end in a CR alone, ":" stands for "=", a comment is of any length.
    (root / "trick3.nrrd").write_bytes(nrrd + f"\n# none\rdata file: {secret}\n\n".encode())
    (root / "trick4.nrrd").write_bytes(nrrd + b"\n#" + bytes(1 << 20) + f"\ndata file: {secret}\n\n".encode())
    (root / "trick2.mha").write_bytes(
        header + f"ElementDataFile : {secret}\nElementDataFile = LOCAL\n".encode()
    )
    (root / "trick3.mha").write_bytes(
        header + f" ElementDataFile = {secret}\nElementDataFile = LOCAL\n".encode()
    )
    folder = Folder(root)
    tricks = [path.name for path in root.glob("trick*")]
    assert len(tricks) == 7
    for name in (*tricks, "list.mha"):
        assert points_elsewhere(root / name)
        with pytest.raises(InputError, match="takes its voxels from another"):
            folder.path(name)
    assert not points_elsewhere(root / "ct.mha") and not points_elsewhere(root / "ct.nrrd")
    for name in ("ct.mha", "ct.nrrd"):  # with the line ends of Windows
        text, end, voxels = (root / name).read_bytes().partition(b"LOCAL\n" if name == "ct.mha" else b"\n\n")
        (root / name).write_bytes((text + end).replace(b"\n", b"\r\n") + voxels)
        assert not points_elsewhere(root / name)


def test_devices_and_pipes_are_refused(root: Path) -> None:
    os.mkfifo(root / "pipe.nii")
    with pytest.raises(InputError, match="no such file"):
        Folder(root).path("pipe.nii")


@pinning
def test_what_was_chosen_stays_what_it_was(root: Path, tmp_path: Path) -> None:
    secret = root.parent / "outside" / "secret.nii.gz"
    before = (root / "ct.nii.gz").read_bytes()
    pinned = Folder(root).pinned("ct.nii.gz", tmp_path / "one")
    (root / "ct.nii.gz").unlink()
    (root / "ct.nii.gz").symlink_to(secret)
    assert pinned.path.read_bytes() == before
    pinned.close()
    with pytest.raises(OSError):
        pinned.path.read_bytes()

    pinned = Folder(root).pinned("series", tmp_path / "two")
    (root / "series" / "1.dcm").unlink()
    (root / "series" / "1.dcm").symlink_to(secret)
    assert [path.read_bytes() for path in pinned.path.iterdir()] == [b"1"]
    pinned.close()


@pinning
@pytest.mark.parametrize("what", ["the file", "a folder above it", "a file in the folder"])
def test_a_link_that_comes_after_the_check_is_not_followed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    outside = root.parent / "outside"
    (root / "deep").mkdir()
    (root / "deep" / "secret.nii.gz").write_bytes((root / "ct.nii.gz").read_bytes())
    check, resolve = Folder.path, Path.resolve

    def swap() -> None:
        if what == "a file in the folder":
            (root / "series" / "1.dcm").unlink()
            (root / "series" / "1.dcm").symlink_to(outside / "secret.txt")
            return
        (root / "deep" / "secret.nii.gz").unlink()
        if what == "the file":
            (root / "deep" / "secret.nii.gz").symlink_to(outside / "secret.nii.gz")
        else:
            (root / "deep").rmdir()
            (root / "deep").symlink_to(outside)

    def checked(self: Folder, name: object) -> Path:
        path = check(self, name)
        swap()
        # Even where somebody is so quick that no later look at the path shows it.
        monkeypatch.setattr(Path, "resolve", lambda one, strict=False: one.absolute())
        return path

    monkeypatch.setattr(Folder, "path", checked)
    name = "series" if what == "a file in the folder" else "deep/secret.nii.gz"
    folder = Folder(resolve(root))
    with pytest.raises(InputError, match="no such file"):
        folder.pinned(name, tmp_path / "pinned")
    assert not (tmp_path / "pinned").exists()


@pinning
def test_a_header_is_read_as_it_was_checked(root: Path, tmp_path: Path) -> None:
    whole = (root / "ct.mha").read_bytes()
    pinned = Folder(root).pinned("ct.mha", tmp_path / "pinned")
    secret = root.parent / "outside" / "secret.txt"
    header = whole.split(b"ElementDataFile")[0]
    (root / "ct.mha").write_bytes(header + f"ElementDataFile = {secret}\n".encode())
    assert pinned.path.read_bytes() == whole
    with pytest.raises(InputError, match="takes its voxels from another"):
        Folder(root).pinned("ct.mha", tmp_path / "again")


@pinning
def test_what_is_pinned_is_read_by_another_process(root: Path, tmp_path: Path) -> None:
    pinned = Folder(root).pinned("ct.nii.gz", tmp_path / "pinned")
    script = (
        "import sys; from ctenhance import CTVolume; print(CTVolume.read(sys.argv[1]).identity()['sha256'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(pinned.path)],
        pass_fds=pinned.descriptors, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.stdout.strip() == CTVolume.read(root / "ct.nii.gz").identity()["sha256"]
    pinned.close()


@pinning
def test_more_files_than_may_be_open_are_copied(root: Path, tmp_path: Path) -> None:
    import resource

    for number in range(40):
        (root / "series" / f"{number}.dcm").write_bytes(str(number).encode())
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (830, limits[1]))
    try:
        pinned = Folder(root).pinned("series", tmp_path / "pinned")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(os.listdir("/proc/self/fd")) == before + 15
    paths = sorted(pinned.path.iterdir())
    assert len(paths) == 40 and sum(path.is_symlink() for path in paths) == 15
    assert all(path.read_bytes() == path.stem.encode() for path in paths)
    pinned.close()
    assert len(os.listdir("/proc/self/fd")) == before
