"""Make a study of tiny volumes: run as a process of its own, which may import what it likes.

python study_maker.py FOLDER '{"cases": 3, "preset": "preference", "conduct": {}, "readers": ["ann"]}'
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ctenhance.core.volume import CTVolume
from ctenhance.study import Design, create

ARMS = ("smooth-arm", "noisy-arm")
SHAPE = (6, 24, 32)


def make(
    root: Path,
    preset: str = "preference",
    cases: int = 3,
    shape: tuple[int, int, int] = SHAPE,
    readers: tuple[str, ...] = ("ann",),
    **more: Any,
) -> None:
    """Write two arms of volumes (they differ in their noise and grid) and the study `root/study`."""
    random = np.random.default_rng(0)
    listed = []
    practised = more.pop("practise", 0)
    for number in range(cases + practised):
        images = {}
        for arm, sd in zip(ARMS, (4, 40), strict=True):
            array = random.normal(40, sd, shape).astype(np.float32)
            array[0] = 100 + 10 * (number % 80)  # tells the case to the tests
            path = root / arm / f"Miller {number}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            CTVolume(array, (0.7, 0.7, 2.5), (-10.0, 5.0, float(number))).write(path)
            images[arm] = str(path)
        listed.append({"name": f"miller-{number}", "images": images})
    asked = {"questions": more.pop("questions")} if "questions" in more else {"preset": preset}
    if practised:
        more["practice"] = listed[cases:]
    values = {
        "title": "Tiny",
        "arms": list(ARMS),
        "cases": listed[:cases],
        "readers": list(readers),
        **asked,
        **more,
    }
    create(Design.parse(values, root), root / "study")


if __name__ == "__main__":
    make(Path(sys.argv[1]), **json.loads(sys.argv[2]))
