"""Write the pictures of the panel CT Reader Study, with a study on the sample phantom.

python Testing/tools/screenshots_readerstudy.py [--out docs/pictures]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from screenshots import REPOSITORY, SAMPLE, fit, opened, picture, wait

# In a process of its own, which may import what makes studies.
MAKE = """
import sys
from pathlib import Path
import numpy as np
from ctenhance.study import create, design_from_folders
from ctenhance.volume import CTVolume

root, volume = Path(sys.argv[1]), CTVolume.read(sys.argv[2])
random = np.random.default_rng(0)
for arm, sd in (("before", 35.0), ("after", 12.0)):
    (root / arm).mkdir()
    for number in range(3):
        noise = random.normal(0, sd, volume.array.shape) * (volume.array > -1000)
        noisy = np.clip(volume.array + noise, -1024, 3071).astype(np.float32)
        CTVolume(noisy, volume.spacing, volume.origin).write(root / arm / f"{number}.nii.gz")
for name in ("image quality (VGA)", "lesion detection (FROC)"):
    design, _ = design_from_folders(root / "before", root / "after", ("reader-1",), name, title="Chest")
    create(design, root / name.split()[0])
"""


def main() -> None:
    """Read a case of two studies and write a picture of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / "pictures")
    arguments = parser.parse_args()
    app, panel = opened("CTReaderStudy")
    ui, desk = panel.ui, panel.desk
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "CTEnhance")}
        subprocess.run([sys.executable, "-c", MAKE, folder, str(SAMPLE)], env=environment, check=True)
        views = ("CTReaderStudyLeft", "CTReaderStudyRight")
        for study, names, keys in (
            ("image", views, (2, 3, 3, 2, 2)),
            ("lesion", ("CTReaderStudyImage",), ()),
        ):
            ui.folderEdit.currentPath = str(Path(folder) / study)
            ui.signInButton.click()
            wait(app, lambda: desk.views.shown and not desk.shelf.busy)
            for key in keys:
                desk.form.press(key)
            fit(app, names, 600)
            if study == "lesion":
                desk.form.rows[0].add(
                    (
                        -40.0,
                        10.0,
                        app.layoutManager().sliceWidget(names[0]).sliceLogic().GetSliceOffset(),
                    )
                )
                desk.form.press(7)
            app.processEvents()
            picture(app, names, panel.parent, arguments.out / f"panel-reader-{study}.png")
            desk.signOut()


if __name__ == "__main__":
    main()
