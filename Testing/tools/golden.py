"""Run every command on small seeded inputs and note what came out, to compare before and after a change.

    python Testing/tools/golden.py record golden.json     before
    python Testing/tools/golden.py check golden.json      after: lists what differs, exit code 1 if any

Notes the SHA-256 of every voxel array, data set and text, and all of every report but times, memory and
versions. Equality holds on one machine and with one number of threads (here: one), so the notes are not
committed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pydicom
import SimpleITK

#: In reports: what differs from run to run.
FLEETING = {
    "files_state",
    "run",
    "seconds",
    "stages",
    "peak_memory_mb",
    "memory",
    "started",
    "finished",
    "created",
    "versions",
    "software",
}
#: In DICOM: UIDs and times are made anew at each writing; pixels are noted apart, sequences by their items.
FLEETING_VRS = {"UI", "DA", "TM", "DT", "SQ", "OW", "OB"}
COMMANDS: dict[str, str] = {
    "enhance": "enhance ct.nii.gz enhanced.nii.gz --samples 2 --uncertainty sd.nii.gz",
    "enhance-strength": "enhance ct.nrrd half.mha --samples 1 --strength 0.5",
    "enhance-diffusion": "enhance ct.nii.gz drawn.nii.gz --model enhance-diffusion",
    "degrade": "degrade ct.nii.gz routine.nii.gz --dose 0.25 --seed 1",
    "degrade-sumi": "degrade ct.nii.gz sumi.nii.gz --preset sumi-paper --seed 1",
    "compare": "compare ct.nii.gz enhanced.nii.gz --reference ct.nii.gz --json compare.json",
    "batch": "batch incoming batch --samples 1 --workers 0",
    "dicom": "dicom enhanced.nii.gz series",
    "dicom-read": "enhance series again.nrrd --samples 1",
    "project": "project ct.nii.gz scan.ctproj.h5 --dose 0.25 --views 180 --columns 192",
    "reconstruct": "reconstruct scan.ctproj.h5 need.nii.gz --all --uncertainty need-sd.nii.gz --residual "
    "residual.nii.gz --sinogram sinogram.nii.gz --samples 2",
    "reconstruct-fbp": "reconstruct scan.ctproj.h5 fbp.nii.gz --method fbp --kernel sharp",
    "simulate": "simulate bins.ctproj.h5 --matrix 96 --views 120 --columns 160 --scatter 0.1 --drift 0.3",
    "decompose": "decompose bins.ctproj.h5 maps --vmi 50,70 --vnc --zeff --electron-density --errors "
    "--low-noise",
    "dicom-density": "dicom maps/iodine.nii.gz series-iodine --quantity density --material iodine",
    "decompose-scatter": "decompose bins.ctproj.h5 maps-scatter --scatter network",
    "calibrate-drift": "calibrate drift bins.ctproj.h5 drift.h5",
    "study": "study from-folders arms/a arms/b study --reader ann",
    "study-status": "study status study",
    "study-plan": "study plan preference --share 0.65 --readers 3",
    "weights": "weights verify",
}  # fmt: skip


def make_inputs(folder: Path) -> None:
    """A small body with lung, bone and noise; the same in several files and folders."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:96, :112]
    body = np.where(((x - 56) / 48) ** 2 + ((y - 48) / 38) ** 2 < 1, 45.0, -1000.0)
    body[(x - 34) ** 2 + (y - 42) ** 2 < 150] = -850
    body[(x - 76) ** 2 + (y - 60) ** 2 < 40] = 700
    array = np.stack([body + 8 * z * (body > 0) for z in range(4)]) + rng.normal(0, 15, (4, *body.shape))
    for part in ("incoming", "arms/a", "arms/b"):
        (folder / part).mkdir(parents=True)
    for name, noise in (("ct.nii.gz", 0), ("ct.nrrd", 0), ("incoming/one.nii.gz", 3), ("incoming/two.mha", 5),
                        ("arms/a/one.nii.gz", 4), ("arms/b/one.nii.gz", 9)):  # fmt: skip
        image = SimpleITK.GetImageFromArray(
            (array + rng.normal(0, 1, array.shape) * noise).round().astype(np.int16)
        )
        image.SetSpacing((2.5, 2.5, 3.0))
        SimpleITK.WriteImage(image, str(folder / name))


def _hash(data: bytes | np.ndarray) -> str:
    raw = np.ascontiguousarray(data).tobytes() if isinstance(data, np.ndarray) else data
    return hashlib.sha256(raw).hexdigest()[:16]


def _without_fleeting(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_fleeting(entry) for key, entry in value.items() if key not in FLEETING}
    if isinstance(value, list):
        return [_without_fleeting(entry) for entry in value]
    return value


def _dicom_notes(dataset: pydicom.Dataset) -> str:
    lines = [
        f"{element.keyword or element.tag}={element.value!r}"
        for element in dataset.iterall()
        if element.VR not in FLEETING_VRS
    ]
    return _hash("\n".join(lines).encode()) + " " + _hash(dataset.pixel_array)


def _notes(path: Path) -> Iterator[tuple[str, Any]]:
    """`(part, note)` of a file that a command wrote."""
    name = path.name
    if name.endswith((".nii.gz", ".nrrd", ".mha")):
        image = SimpleITK.ReadImage(str(path))
        yield "grid", [image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection()]
        yield "voxels", _hash(SimpleITK.GetArrayFromImage(image))
    elif name.endswith(".h5"):
        with h5py.File(path) as file:
            yield "attributes", {key: str(value) for key, value in file.attrs.items() if key != "meta"}
            found: dict[str, str] = {}
            file.visititems(
                lambda key, item: (
                    found.update({key: _hash(item[()])}) if isinstance(item, h5py.Dataset) else None
                )
            )
            yield "data", found
    elif name.endswith(".dcm"):
        yield "dicom", _dicom_notes(pydicom.dcmread(path))
    elif name.endswith(".json"):
        yield "json", _without_fleeting(json.loads(path.read_text(encoding="utf-8")))


def run(only: list[str]) -> dict[str, Any]:
    """All notes: `{command: {"exit": code, file: {part: note}}}`."""
    notes: dict[str, Any] = {}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        environment["CTENHANCE_HOME"] = str(folder / "home")
        make_inputs(folder)
        seen = {path for path in folder.rglob("*") if path.is_file()}
        for name, line in COMMANDS.items():
            if only and name not in only:
                continue
            arguments = line.split()
            command = [sys.executable, "-m", "ctenhance", *arguments]
            if arguments[0] in {"enhance", "degrade", "project", "reconstruct", "simulate", "decompose"}:
                command += ["--report", f"{name}-report.json"]
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
            entry: dict[str, Any] = {
                "exit": done.returncode,
                "printed": done.stdout.replace(temporary, "").strip(),
            }
            if done.returncode:
                entry["said"] = done.stderr.strip().splitlines()[-1:]
            for path in sorted(set(folder.rglob("*")) - seen):
                if path.is_file():
                    seen.add(path)
                    # a study's files have drawn names and salts, a batch's own ones times
                    if not name.startswith("study") and not {"ctenhance-batch", "README.md"} & {*path.parts}:
                        entry[path.relative_to(folder).as_posix()] = dict(_notes(path))
            notes[name] = json.loads(json.dumps(entry))
            print(f"{name}: exit {done.returncode}, {len(entry) - 2} files", file=sys.stderr, flush=True)
    return notes


def differences(before: Any, after: Any, where: str = "") -> Iterator[str]:
    """A line for each place where two notes are not the same."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            if key not in before or key not in after:
                yield f"{where}/{key}: only {'after' if key in after else 'before'}"
            else:
                yield from differences(before[key], after[key], f"{where}/{key}")
    elif before != after:
        yield f"{where}: {str(before)[:120]} -> {str(after)[:120]}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["record", "check"])
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", nargs="*", default=[], help="commands to run, by their name here")
    asked = parser.parse_args()
    notes = run(asked.only)
    if asked.what == "record":
        asked.file.write_text(json.dumps(notes, indent=1), encoding="utf-8")
        return 0
    before = json.loads(asked.file.read_text(encoding="utf-8"))
    if asked.only:
        before = {name: before[name] for name in asked.only}
    found = list(differences(before, notes))
    print("\n".join(found) or "all equal")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
