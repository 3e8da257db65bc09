"""The bank of clean sinograms that both trainings draw from: normal-dose slices, seen by drawn scanners.

On disk: a safetensors file for three neighbouring slices (one, where a file has a single slice), `integrals`
uint16 `[slice, view, column]` in steps of `STEP`, the geometry and the volume's name in the header. A bank
that was begun goes on where it stopped."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ctenhance.core.volume import CTVolume
from ctenhance.physics.geometry import FanGeometry, ParallelGeometry, ScanGeometry
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.physics.projector import project
from ctenhance.physics.units import hu_to_mu
from ctenhance.reconstruction.drawing import draw_scan
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import replace_when_done
from ctenhance.runtime.progress import check
from ctenhance.training.loop import bank_names

#: Line integrals are stored in whole numbers of this: far below any noise, and 13 fit into 16 bits.
STEP = 2e-4
SCANS_PER_VOLUME, SCANS_PER_SLICE = 6, 2


@dataclass(frozen=True)
class CleanScan:
    """Clean line integrals, uint16 `[1 or 3, view, column]` in steps of `STEP`, the rays along which they
    were measured, and the pixels of the image that they were made from."""

    name: str
    geometry: ScanGeometry
    grid: ImageGrid
    integrals: torch.Tensor

    def three(self) -> torch.Tensor:
        """Line integrals `[3, view, column]`; a lone slice is its own neighbour."""
        values = self.integrals.float() * STEP
        return values.expand(3, -1, -1) if len(values) == 1 else values


def geometry_to_json(scan: ScanGeometry, grid: ImageGrid) -> str:
    """The fields of both, with the kind of the rays."""
    kind = "fan" if isinstance(scan, FanGeometry) else "parallel"
    return json.dumps({"kind": kind, **asdict(scan), **asdict(grid)})


def geometry_from_json(text: str) -> tuple[ScanGeometry, ImageGrid]:
    """What `geometry_to_json` wrote."""
    stored: dict[str, Any] = json.loads(text)
    kind = FanGeometry if stored.pop("kind") == "fan" else ParallelGeometry
    for name in ("view_angles", "center_mm"):
        stored[name] = None if stored[name] is None else tuple(stored[name])
    of_grid = {field.name: stored.pop(field.name) for field in fields(ImageGrid)}
    return kind(**stored), ImageGrid(**of_grid)


def _places(depth: int) -> list[list[int]]:
    """Slices of each scan: neighbours, evenly spread over a volume."""
    if depth < 3:
        return [[0]] * SCANS_PER_SLICE
    count = min(SCANS_PER_VOLUME, depth - 2)
    middles = np.linspace(1, depth - 2, count).round().astype(int)
    return [[m - 1, m, m + 1] for m in middles.tolist()]


def build_sinograms(
    volumes: Sequence[Path],
    folder: Path,
    seed: int = 0,
    progress: Any = None,
    cancel: Any = None,
) -> list[Path]:
    """Project slices of all `volumes` into `folder`; returns the files. Those that are there stay.

    Raises InputError where a volume cannot be read, Cancelled when asked to stop.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    for done, (stem, path) in enumerate(zip(bank_names(volumes), volumes, strict=True)):
        complete = folder / f"{stem}.complete"
        if not complete.exists():
            volume = CTVolume.read(path)
            for index, z in enumerate(_places(len(volume.array))):
                check(cancel)
                target = folder / f"{stem}-{index}.safetensors"
                if not target.exists():
                    rng = np.random.default_rng((seed, done, index))
                    _write_scan(target, volume, z, *draw_scan(rng, volume.array[z], volume.spacing[0]))
            complete.touch()
        # Not by a pattern with a star: 'a' must not take the scans of 'a-2', too.
        own = re.compile(re.escape(stem) + r"-\d+\.safetensors")
        files += sorted(path for path in folder.iterdir() if own.fullmatch(path.name))
        if progress is not None:
            progress("sinograms", done + 1, len(volumes))
    return files


def _write_scan(target: Path, volume: CTVolume, z: list[int], scan: ScanGeometry, grid: ImageGrid) -> None:
    integrals = project(hu_to_mu(torch.from_numpy(volume.array[z])).clamp(min=0), scan, grid)
    stored = (integrals / STEP).round().clamp(0, 65535).to(torch.uint16)
    facts = {"name": target.stem, "geometry": geometry_to_json(scan, grid)}
    with replace_when_done(target) as temporary:
        save_file({"integrals": stored}, os.fspath(temporary), metadata=facts)


def load_sinograms(files: Sequence[Path]) -> list[CleanScan]:
    """The bank's scans, in memory. Raises InputError where a file is damaged or none is there."""
    scans = []
    for path in files:
        try:
            with safe_open(os.fspath(path), framework="pt") as file:
                facts = file.metadata() or {}
                both = geometry_from_json(facts["geometry"])
                scans.append(CleanScan(facts["name"], *both, file.get_tensor("integrals")))
        except (SafetensorError, KeyError, ValueError, OSError) as error:
            raise InputError(
                f"The sinogram {path.name} in the bank is damaged: delete it and start again."
            ) from error
    if not scans:
        raise InputError("The bank of sinograms is empty: give volumes to train on.")
    return scans
