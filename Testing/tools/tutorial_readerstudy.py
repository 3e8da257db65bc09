"""Do what docs/reader-study.md tells: a small study on real CT and its enhanced version, start to report.

    python Testing/tools/tutorial_readerstudy.py WORK [--data ../shared/data/ct] [--out docs/pictures]

Runs the tutorial's commands in the new folder WORK, prints them with what they say, and writes its plots.
Three scripted readers read in the real panel by key presses. They grade the noise and the edges that they
measure in what is on the screen, each with a scatter of its own; nobody tells them which image is which.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "Testing"), str(REPOSITORY / "CTEnhance")]
SECONDS = 900
# The first three are patients that no embedded model was trained on.
PATIENTS = (
    "chest_LIDC-IDRI_0314_Philips-Brilliance16P_D",
    "chest_cptac_pda_siemens_b40f",
    "abdomen_Pancreatic-CT-CBCT-SEG_CB001_Philips-BigBore_B-iDose3",
    "chest_NSCLC-Radiogenomics_R01-001_Siemens_B45f",
    "abdomen_LIDC-IDRI_0004_GE-LightSpeed16_STANDARD",
    "abdomen_tcga_ov_toshiba_fc13",
)
SLICES = 3
COLOURS = 64
READERS = ("ann", "bob", "cat")
STUDY = "my-study"
VIEWS = {"left": "CTReaderStudyFirst", "right": "CTReaderStudySecond"}
# The least noise (HU) and the steepest edges (HU a pixel) of the grades 2 to 5, and the scatter of a hand.
NOISE_STEPS, EDGE_STEPS, SCATTER = (24.0, 16.0, 10.0, 6.5), (60.0, 130.0, 190.0, 290.0), 0.4
# How much of each question is a matter of noise; the rest is one of edges.
NOISE_SHARE = {"noise": 1.0, "sharpness": 0.0}


def cut(data: Path, folder: Path) -> None:
    """Write the middle slices of each patient's scan as `p1.nii.gz`, ..."""
    import SimpleITK

    folder.mkdir()
    for number, name in enumerate(PATIENTS, start=1):
        image = SimpleITK.ReadImage(str(data / f"{name}.nii.gz"))
        first = image.GetDepth() // 2 - SLICES // 2
        SimpleITK.WriteImage(image[:, :, first : first + SLICES], str(folder / f"p{number}.nii.gz"))


def say(work: Path, line: str) -> None:
    """Run a command of the tutorial and print it with its output; ends when it fails."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "CTEnhance")}
    command = [sys.executable, "-m", *shlex.split(line), "--progress", "none"]
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True)
    print(f"$ {line}\n{done.stdout}", flush=True)
    if done.returncode:
        sys.exit(done.stderr)


def wait(app: Any, until: Callable[[], bool]) -> None:
    """Let the application go on until it is so. Raises TimeoutError after a quarter of an hour."""
    end = time.monotonic() + SECONDS
    while not until():
        if time.monotonic() > end:
            raise TimeoutError("The panel did not finish.")
        app.processEvents()
        time.sleep(0.01)


class ScriptedReader:
    """Sits before the panel with a keyboard; sees what is in the views, and nothing else."""

    def __init__(self, app: Any, panel: Any, seed: int) -> None:
        self._app, self._panel = app, panel
        self._random = np.random.default_rng(seed)
        self._strictness = self._random.normal(0, SCATTER)

    def reads(self, name: str) -> None:
        """Sign in, grade every case, finish."""
        from ctenhance.study.session import FINISHED, WAITING

        ui, desk = self._panel.ui, self._panel.desk
        ui.readerSelector.currentIndex = ui.readerSelector.findText(name)
        ui.signInButton.click()
        while desk.session.state != FINISHED:
            if desk.session.state == WAITING or desk.session.can_finish:
                self._press("Ctrl+Return")  # finish the session, begin the next one
                continue
            wait(self._app, lambda: desk.form.enabled and not desk.shelf.busy)
            for key in self._grades(desk.session.asked):
                self._press(str(key))
            self._press("PgDown")
        self._press("Ctrl+Return")  # sign out

    def _grades(self, asked: Any) -> list[int]:
        seen = {side: _measured(name) for side, name in VIEWS.items()}
        keys = []
        for question, side in asked:
            noise, edges = seen[side]
            part = NOISE_SHARE.get(question.id, 0.5)
            grade = 1 + part * sum(noise < step for step in NOISE_STEPS)
            grade += (1 - part) * sum(edges > step for step in EDGE_STEPS)
            grade += self._strictness + self._random.normal(0, SCATTER)
            keys.append(int(np.clip(round(grade), 1, 5)))
        return keys

    def _press(self, key: str) -> None:
        import slicer
        from PySide6 import QtGui, QtTest, QtWidgets

        window = slicer.util.mainWindow()
        window.activateWindow()
        wait(self._app, lambda: window.isActiveWindow)
        combination = QtGui.QKeySequence(key)[0]
        target = QtWidgets.QApplication.focusWidget() or window
        QtTest.QTest.keyClick(target, combination.key(), combination.keyboardModifiers())
        self._app.processEvents()


def _measured(view: str) -> tuple[float, float]:
    """Return the noise (HU) of soft tissue in a view's image, and the steepness of its edges (HU a pixel)."""
    import slicer

    composite = slicer.app.layoutManager().sliceWidget(view).mrmlSliceCompositeNode()
    node = slicer.mrmlScene.GetNodeByID(composite.GetBackgroundVolumeID())
    array = slicer.util.arrayFromVolume(node)[SLICES // 2].astype(float)
    smooth = ndimage.gaussian_filter(array, 1.5)
    steepness = ndimage.gaussian_gradient_magnitude(array, 1.0)
    flat = (np.abs(smooth - 40) < 90) & (steepness < np.median(steepness[np.abs(smooth - 40) < 90]))
    rough = (array - smooth)[flat]
    return float(1.4826 * np.median(np.abs(rough - np.median(rough)))), float(np.percentile(steepness, 97))


def _write(pixels: np.ndarray, path: Path) -> None:
    """Write a picture [row, column, RGB] in few colours: a sixth of the size."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(path)


def report_pictures(report: Path, out: Path) -> None:
    """Write the plots of the grades and of their shifts out of the report's page."""
    from PIL import Image

    page = report.read_text(encoding="utf-8")
    for name, caption in (("grades", "Grades by arm"), ("shifts", "Shift of the grades")):
        found = re.search(rf'src="data:image/png;base64,([^"]+)"[^>]*>\s*<figcaption>{caption}', page)
        if found is None:
            sys.exit(f"The report has no plot '{caption}'.")
        image = Image.open(io.BytesIO(base64.b64decode(found[1]))).convert("RGB")
        _write(np.asarray(image), out / f"reader-report-{name}.png")


def main() -> None:
    """Go the whole way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data" / "ct")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / "pictures")
    given = parser.parse_args()
    given.work.mkdir(parents=True)
    cut(given.data, given.work / "routine")
    say(given.work, "ctenhance batch routine enhanced")
    readers = " ".join(f"--reader {reader}" for reader in READERS)
    say(
        given.work,
        f"ctenhance study from-folders routine enhanced {STUDY} {readers} "
        '--preset "image quality (VGA)" --title "Routine CT, enhanced" --repeats 2 --seed 7',
    )
    import slicer

    from panel_run import open_panel

    panel = open_panel("CTReaderStudy")
    app = slicer.app

    window = slicer.util.mainWindow()
    window.setCentralWidget(panel.parent)
    window.show()
    window.activateWindow()
    wait(app, lambda: window.isActiveWindow)
    panel.ui.folderEdit.currentPath = str(given.work / STUDY)
    for seed, reader in enumerate(READERS):
        ScriptedReader(app, panel, seed).reads(reader)
    for line in ("status my-study", "unblind my-study", "analyse my-study results"):
        say(given.work, f"ctenhance study {line}")
    report_pictures(given.work / "results" / "report.html", given.out)


if __name__ == "__main__":
    main()
