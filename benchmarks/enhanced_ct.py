"""Reading an Enhanced CT of many frames, by turns with the build before: time against the number of frames.

    git worktree add ../before cdf2be5
    python benchmarks/enhanced_ct.py --before ../before/CTEnhance --frames 500,1000,2000 --out result.json

Each reading is a process of its own; its time is that of `CTVolume.read` alone, imports aside. The files have
the functional groups of a scanner's (ten macros a frame, five of them different from frame to frame), with
defined and with undefined lengths.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "Testing" / "library"), str(HERE.parent / "CTEnhance")]

READER = """
import pathlib, resource, sys, time, json
try:
    from ctenhance.core.volume import CTVolume
    import ctenhance.files.dicom.reading
except ImportError:  # before the package had rooms
    from ctenhance.volume import CTVolume
    import ctenhance.dicom_reading
used = lambda: sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
# Of this process alone: ru_maxrss begins with what the one that started it had.
peak = lambda: next(int(line.split()[1]) >> 10 for line in pathlib.Path("/proc/self/status").read_text()
    .splitlines() if line.startswith("VmHWM"))
cpu, wall = used(), time.perf_counter()
volume = CTVolume.read(sys.argv[1])
print(json.dumps({
    "wall_s": time.perf_counter() - wall, "cpu_s": used() - cpu,
    "peak_mb": peak(), "sum": float(volume.array.sum(dtype="float64")), "shape": volume.array.shape,
}))
"""


def macro(**attributes: Any) -> Sequence:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return Sequence([item])


def write(path: Path, frames: int, side: int, undefined: bool) -> None:
    from synthetic_dicom import enhanced, hounsfield

    some = hounsfield(8, side, side)
    values = np.concatenate([some] * (frames // 8 + 1))[:frames]
    image = enhanced(values, 0.5 * np.arange(frames), np.ones(frames))
    for index, group in enumerate(image.PerFrameFunctionalGroupsSequence):
        when = f"20260101120{index // 60 % 10}{index % 60:02d}.000"
        group.FrameContentSequence = macro(
            FrameAcquisitionDateTime="20260101120000.000", FrameReferenceDateTime=when, StackID="1",
            FrameAcquisitionDuration=250.0, DimensionIndexValues=[1, index + 1], FrameAcquisitionNumber=1,
            InStackPositionNumber=index + 1,
        )  # fmt: skip
        group.CTImageFrameTypeSequence = macro(
            FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], PixelPresentation="MONOCHROME",
            VolumetricProperties="VOLUME", VolumeBasedCalculationTechnique="NONE",
        )  # fmt: skip
        group.FrameVOILUTSequence = macro(WindowCenter=50, WindowWidth=400)
        group.CTPositionSequence = macro(
            TableHeight=120.0, DataCollectionCenterPatient=[0.0, 0.0, 0.5 * index],
            ReconstructionTargetCenterPatient=[0.0, 0.0, 0.5 * index],
        )  # fmt: skip
        group.IrradiationEventIdentificationSequence = macro(IrradiationEventUID="1.2.3.4")
        group.CTAcquisitionDetailsSequence = macro(
            RotationDirection="CW", RevolutionTime=0.5, SingleCollimationWidth=0.6,
            TotalCollimationWidth=38.4, GantryDetectorTilt=0.0, DataCollectionDiameter=500.0,
        )  # fmt: skip
        if undefined:
            group.is_undefined_length_sequence_item = True
            for element in group:
                element.is_undefined_length = True
    image["PerFrameFunctionalGroupsSequence"].is_undefined_length = undefined
    image.save_as(path, enforce_file_format=True)


def read(package: Path, path: Path) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": str(package)}
    printed = subprocess.run(
        [sys.executable, "-c", READER, str(path)], env=environment, check=True, capture_output=True, text=True
    )
    return json.loads(printed.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="the folder CTEnhance of the build before")
    parser.add_argument("--frames", default="500,1000,2000")
    parser.add_argument("--sides", default="512")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    rows = []
    for side in map(int, asked.sides.split(",")):
        for frames in map(int, asked.frames.split(",")):
            for undefined in (False, True):
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder, "enhanced.dcm")
                    write(path, frames, side, undefined)
                    builds = {"before": asked.before, "now": HERE.parent / "CTEnhance"}
                    found = [
                        {name: read(package, path) for name, package in builds.items()}
                        for _ in range(asked.turns)
                    ]
                assert len({one["sum"] for turn in found for one in turn.values()}) == 1, (
                    "not the same values"
                )
                row: dict[str, Any] = {"frames": frames, "side": side, "undefined_lengths": undefined}
                for figure in ("wall_s", "cpu_s", "peak_mb"):
                    best = {name: min(turn[name][figure] for turn in found) for name in builds}
                    row[figure] = {**best, "ratio": best["now"] / best["before"]}
                rows.append(row)
                print(json.dumps(row), flush=True)
    if asked.out:
        asked.out.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
