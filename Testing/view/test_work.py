"""Work from the page: the command line in a process of its own, with progress, cancelling and files to
fetch."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from conftest import Page, Served

from ctenhance.core.volume import CTVolume
from ctenhance.physics.phantom import chest_phantom

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
    page.page.focus("#cancel")
    page.press("Enter")
    page.until(f"{WORKED}.startsWith('Cancelled')")
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


def test_reconstruct_and_decompose_from_the_page(
    serve: Callable[..., Served], look: Callable[..., Page], tmp_path: Path
) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    chest_phantom(slices=1, seed=1).write(tmp_path / "chest.nii.gz")
    command("project", tmp_path / "chest.nii.gz", folder / "scan.ctproj.h5", "--dose", 0.5, "--views", 120)
    page = look(serve("view", "--folder", folder).address)
    page.until("document.querySelectorAll('#entries option').length === 1")
    page.page.select_option("#entries", index=0)
    page.page.select_option("#verb", "reconstruct")
    page.page.select_option("#method", "fbp")
    page.page.click("#run")
    page.until(f"{WORKED}.startsWith('Done')")
    page.until(f"{CELLS} === 1")
    page.at_rest()
    # A scan without energy bins cannot be decomposed: that is said, without where the file is.
    page.page.select_option("#verb", "decompose")
    page.page.click("#run")
    page.until("document.getElementById('worked').classList.contains('problem')")
    assert str(folder) not in page.text("#worked")
