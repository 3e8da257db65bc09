"""Work from the page: the command line in a process of its own, with progress, cancelling and files to
fetch."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pydicom
import pytest
from conftest import PATIENCE, REPOSITORY, Page, Served

from ctenhance.core.volume import CTVolume

sys.path.append(str(REPOSITORY / "Testing" / "library"))
from reconstruct_scan import measured
from synthetic_dicom import write_series

CELLS = "document.querySelectorAll('.cell').length"
WORKED = "document.getElementById('worked').textContent"


def command(*arguments: object) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ctenhance", *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def fetched(page: Page, name: str) -> Path:
    with page.page.expect_download() as saved:
        page.page.click(f"text=Download {name}")
    assert saved.value.suggested_filename == name
    return Path(saved.value.path())


def at_work(served: Served) -> psutil.Process:
    """The command that the page runs, as soon as there is one."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        for one in psutil.Process(served.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "ctenhance" in one.cmdline():
                    return one
        time.sleep(0.02)
    raise AssertionError("nothing runs")


def test_enhance_from_the_page(
    serve: Callable[..., Served], look: Callable[..., Page], pair: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "scans"
    (folder / "patients").mkdir(parents=True)
    shutil.copy(pair / "before.nii.gz", folder / "patients" / "chest.nii.gz")
    served = serve("view", "--folder", folder)
    page = look(served.address)
    page.until("document.querySelectorAll('#entries option').length === 1")

    # By keyboard alone: down into the folder, the volume, Apply.
    page.page.focus("#entries")
    page.press("Enter")
    page.until("document.querySelectorAll('#entries option').length === 2")
    page.page.focus("#entries")
    page.press("End")
    page.page.focus("#open")
    page.press("Enter")
    page.until(f"{CELLS} === 1")
    page.at_rest()

    # Cancelled: nothing is kept, and the image stays.
    page.page.focus("#run")
    page.press("Enter")
    page.until("!document.getElementById('cancel').disabled")
    running = at_work(served)
    assert "enhance" in running.cmdline()
    page.page.focus("#cancel")
    page.press("Enter")
    page.until(f"{WORKED}.startsWith('Cancelled')")
    running.wait(60)
    assert (
        page.page.evaluate(CELLS) == 1
        and page.page.evaluate("document.querySelectorAll('#files a').length") == 0
    )

    page.page.click("#run")
    page.until("!document.getElementById('progress').hidden")
    page.until(f"{WORKED}.startsWith('Done')")
    page.until(f"{CELLS} === 2")
    page.at_rest()
    assert not np.array_equal(page.pixels("axial/before"), page.pixels("axial/after"))

    enhanced = CTVolume.read(_named(fetched(page, "enhanced.nii.gz"), tmp_path / "fetched.nii.gz"))
    assert enhanced.array.shape == (12, 64, 80)
    with zipfile.ZipFile(fetched(page, "series.zip")) as archive:
        names = archive.namelist()
        with archive.open(names[0]) as stream:
            header = pydicom.dcmread(stream)
    assert len(names) == 12 and header.Modality == "CT"

    # Another browser may not have this one's files.
    link = page.page.evaluate("document.querySelector('#files a').href")
    stranger = look(served.address)
    assert stranger.page.evaluate(f"fetch('{link}').then((answer) => answer.status)") == 404
    assert served.stop() == 0


def _named(path: Path, target: Path) -> Path:
    target.write_bytes(path.read_bytes())
    return target


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small scan of one energy and a small one in energy bins, each of two slices."""
    folder = tmp_path_factory.mktemp("scans")
    measured(rows=2).write(folder / "a-scan.ctproj.h5")
    small = ["--slices", 2, "--matrix", 40, "--views", 64, "--columns", 64, "--detector", "ideal"]
    command("simulate", folder / "bins.ctproj.h5", *small)
    return folder


def chosen(page: Page, index: int, verb: str) -> None:
    """Choose a file and what to do with it, as a user does, and press Apply."""
    page.until("document.querySelectorAll('#entries option').length === 2")
    page.page.select_option("#entries", index=index)
    page.page.select_option("#verb", verb)


def test_need_from_the_page(
    serve: Callable[..., Served], look: Callable[..., Page], scans: Path, tmp_path: Path
) -> None:
    page = look(serve("view", "--folder", scans).address)
    chosen(page, 0, "reconstruct")
    assert page.page.input_value("#method") == "need"
    page.page.click("#run")
    page.until(f"{WORKED}.startsWith('Done')")
    page.until(f"{CELLS} === 2")
    page.at_rest()
    names = "[...document.querySelectorAll('.cell .name')].map((one) => one.textContent)"
    assert page.page.evaluate(names) == ["FBP", "NEED"]
    assert not np.array_equal(page.pixels("axial/before"), page.pixels("axial/after"))
    # It is what the command line makes of the same scan, and what is shown is what is fetched.
    command("reconstruct", scans / "a-scan.ctproj.h5", tmp_path / "own.nii.gz", "--method", "need")
    own = CTVolume.read(tmp_path / "own.nii.gz", check_hu=False)
    there = CTVolume.read(_named(fetched(page, "image.nii.gz"), tmp_path / "there.nii.gz"), check_hu=False)
    assert own.identity() == there.identity()
    page.page.mouse.move(200, 400)
    page.until("document.getElementById('probe').textContent.includes('NEED')")
    voxel, _sign, values = page.text("#probe").partition(":")
    i, j, k = (int(part) for part in voxel.split(","))
    number = float(values.split("NEED")[1].split()[0])
    assert number == pytest.approx(float(own.array[k, j, i]), abs=0.06)
    with zipfile.ZipFile(fetched(page, "series.zip")) as archive:
        assert len(archive.namelist()) == 2


def test_decomposition_from_the_page(
    serve: Callable[..., Served], look: Callable[..., Page], scans: Path, tmp_path: Path
) -> None:
    page = look(serve("view", "--folder", scans).address)
    # A scan without energy bins cannot be decomposed: that is said, without where the file is.
    chosen(page, 0, "decompose")
    page.page.click("#run")
    page.until("document.getElementById('worked').classList.contains('problem')")
    assert "energy" in page.text("#worked") and str(scans) not in page.text("#worked")
    assert page.page.evaluate(CELLS) == 0

    chosen(page, 1, "decompose")
    page.page.select_option("#basis", "water,iodine")
    page.page.click("#run")
    page.until(f"{WORKED}.startsWith('Done')")
    page.until(f"{CELLS} === 2")
    page.at_rest()
    name = "document.querySelector('.cell .name').textContent"
    assert page.page.evaluate(name) == "70 keV"
    quiet = page.pixels("axial/kev")
    page.page.fill("#kev", "40")
    page.until(f"{name} === '40 keV'")
    page.at_rest()
    assert not np.array_equal(page.pixels("axial/kev"), quiet)

    # The maps are those of the command line, and the image at 40 keV is the one that it writes.
    maps = tmp_path / "maps"
    maps.mkdir()
    command("decompose", scans / "bins.ctproj.h5", maps, "--basis", "water,iodine", "--vmi", "40")
    for material in ("water", "iodine"):
        there = _named(fetched(page, f"{material}.nii.gz"), tmp_path / f"{material}.nii.gz")
        own, other = (CTVolume.read(one, check_hu=False) for one in (maps / there.name, there))
        assert own.identity() == other.identity()
    page.page.mouse.move(300, 400)
    page.until("document.getElementById('probe').textContent.includes('40 keV')")
    voxel, _sign, values = page.text("#probe").partition(":")
    i, j, k = (int(part) for part in voxel.split(","))
    image = next(path for path in maps.iterdir() if "40" in path.name)
    own = CTVolume.read(image, check_hu=False)
    number = float(values.split("40 keV")[1].split()[0])
    assert number == pytest.approx(float(own.array[k, j, i]), abs=1.0)


def test_a_series_is_chosen_from_a_folder_with_several(
    serve: Callable[..., Served], look: Callable[..., Page], tmp_path: Path
) -> None:
    disc = tmp_path / "scans" / "disc"
    thin = write_series(disc, depths=range(0, 12), prefix="a", SeriesInstanceUID="1.2.3", SeriesNumber=2)
    write_series(disc, depths=(0, 5, 10), prefix="b", SeriesInstanceUID="1.2.4", SeriesNumber=7)
    page = look(serve("view", "--folder", tmp_path / "scans").address)
    page.until("document.querySelectorAll('#entries option').length === 1")
    page.page.focus("#open")
    page.page.select_option("#entries", "disc")
    page.press("Enter")
    page.until("document.querySelectorAll('#entries option').length === 3")
    listed = page.page.evaluate(
        "[...document.querySelectorAll('#entries option')].map((one) => one.textContent)"
    )
    assert listed[1].startswith("series 2: 12 slices") and listed[2].startswith("series 7: 3 slices")
    assert page.page.evaluate(CELLS) == 0
    page.page.select_option("#entries", index=1)
    page.page.click("#open")
    page.until(f"{CELLS} === 1")
    page.at_rest()
    page.until("document.querySelector('.cell .slice').textContent.endsWith('/ 12')")
    page.page.mouse.move(500, 400)
    page.until("document.getElementById('probe').textContent.includes('HU')")
    voxel, _sign, values = page.text("#probe").partition(":")
    i, j, k = (int(part) for part in voxel.split(","))
    assert float(values.split("Before")[1].split()[0]) == thin[k, j, i]
    # The other one, in the same list.
    page.page.select_option("#entries", index=2)
    page.page.click("#open")
    page.until("document.querySelector('.cell .slice').textContent.endsWith('/ 3')")
