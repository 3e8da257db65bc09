"""Write the picture of a lesion mark in the panel CT Reader Study, with a study on the sample phantom.

python Testing/tools/screenshots_readerstudy.py [--out docs/pictures]

The panel's other picture comes from `tutorial_readerstudy.py`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from screenshots import REPOSITORY, SAMPLE, fit, opened, picture, wait

VIEW = "CTReaderStudyImage"
# In a process of its own, which may import what makes studies.
MAKE = """
import sys
from pathlib import Path
import numpy as np
from ctenhance.study import create, design_from_folders
from ctenhance.core.volume import CTVolume

root, volume = Path(sys.argv[1]), CTVolume.read(sys.argv[2])
random = np.random.default_rng(0)
for arm, sd in (("before", 35.0), ("after", 12.0)):
    (root / arm).mkdir()
    for number in range(3):
        noise = random.normal(0, sd, volume.array.shape) * (volume.array > -1000)
        noisy = np.clip(volume.array + noise, -1024, 3071).astype(np.float32)
        CTVolume(noisy, volume.spacing, volume.origin).write(root / arm / f"{number}.nii.gz")
preset = "lesion detection (FROC)"
design, _ = design_from_folders(root / "before", root / "after", ("reader-1",), preset, title="Chest")
create(design, root / "study")
"""


def main() -> None:
    """Mark a point and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / "pictures")
    arguments = parser.parse_args()
    app, panel = opened("CTReaderStudy")
    ui, desk = panel.ui, panel.desk
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "CTEnhance")}
        subprocess.run([sys.executable, "-c", MAKE, folder, str(SAMPLE)], env=environment, check=True)
        ui.folderEdit.currentPath = str(Path(folder) / "study")
        ui.readerSelector.currentIndex = 1
        ui.signInButton.click()
        wait(app, lambda: desk.views.shown and not desk.shelf.busy)
        fit(app, (VIEW,), 600)
        offset = app.layoutManager().sliceWidget(VIEW).sliceLogic().GetSliceOffset()
        desk.form.rows[0].add((-40.0, 10.0, offset))
        desk.form.press(7)
        app.processEvents()
        picture(app, (VIEW,), panel.parent, arguments.out / "panel-reader-lesion.png")
        desk.signOut()


if __name__ == "__main__":
    main()
