"""All measures of a volume before and after, as a JSON-able dictionary and as a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ctenhance.core.volume import CTVolume
from ctenhance.quality.flicker import flicker
from ctenhance.quality.guide import smoothed_guide
from ctenhance.quality.metrics import similarity
from ctenhance.quality.noise import noise
from ctenhance.quality.sharpness import sharpness
from ctenhance.quality.tissue import tissue_bias
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.progress import Cancellable, Progress, check

# Grids count as the same within these: file formats keep positions as text or as float32.
SPACING_TOLERANCE = 1e-3  # relative
ORIGIN_TOLERANCE = 0.05  # voxels
DIRECTION_TOLERANCE = 1e-3


def compare(
    before: CTVolume,
    after: CTVolume,
    reference: CTVolume | None = None,
    progress: Progress | None = None,
    cancel: Cancellable | None = None,
) -> dict[str, Any]:
    """Measure what changed from `before` to `after`, and how near both are to a `reference` if there is one.

    Returns a dictionary of plain numbers, None where something cannot be measured:
    `grid` (shape [z, y, x], spacing_mm [x, y, z]); `similarity` with `against`, 'reference' or 'before', and
    by volume what `metrics.similarity` gives; `noise`, `sharpness`, `tissue` and `flicker` as `noise`,
    `sharpness`, `tissue_bias` and `flicker` of this package give them.
    Raises InputError when the grids differ, Cancelled when asked to stop.
    """
    volumes = same_grid(before, after, reference)
    for volume in volumes.values():
        volume.require_hu()
    arrays = {name: volume.array for name, volume in volumes.items()}
    spacing = volumes["before"].spacing
    against = "before" if reference is None else "reference"
    compared = [name for name in arrays if name != against]
    total = 5 + len(compared)
    done = 0

    def step() -> None:
        nonlocal done
        check(cancel)
        if progress is not None:
            progress("compare", done, total)
        done += 1

    step()
    guide = smoothed_guide(arrays, spacing, cancel=cancel)
    result: dict[str, Any] = {
        "grid": {
            "shape": list(before.array.shape),
            "spacing_mm": [float(length) for length in before.spacing],
        },
        "similarity": {"against": against},
    }
    for name in compared:
        step()
        result["similarity"][name] = similarity(arrays[name], arrays[against], cancel)
    for measure in (noise, sharpness, tissue_bias, flicker):
        step()
        result["tissue" if measure is tissue_bias else measure.__name__] = measure(
            arrays, guide, spacing, cancel
        )
    step()
    return result


def same_grid(before: CTVolume, after: CTVolume, reference: CTVolume | None = None) -> dict[str, CTVolume]:
    """Return the given volumes by name, 'before', 'after' and 'reference', with axial slices.

    Raises InputError naming what differs when they are not on one grid.
    """
    volumes = {"before": before, "after": after}
    if reference is not None:
        volumes["reference"] = reference
    for name, volume in volumes.items():
        difference = grid_difference(volume, before, "'before'")
        if difference:
            raise InputError(
                f"Cannot compare volumes on different grids: '{name}' has {difference}; "
                f"resample '{name}' onto the grid of 'before' first."
            )
    return {name: volume.axial() for name, volume in volumes.items()}


def grid_difference(volume: CTVolume, other: CTVolume, name: str) -> str | None:
    """What differs between the grids: '… , but `name` has …', or None."""
    if volume.array.shape != other.array.shape:
        mine, theirs = ("×".join(map(str, reversed(v.array.shape))) for v in (volume, other))
        return f"{mine} voxels (x, y, z), but {name} has {theirs}"
    spacing = np.array(other.spacing)
    if np.any(np.abs(np.array(volume.spacing) - spacing) > SPACING_TOLERANCE * spacing):
        return f"a spacing of {_numbers(volume.spacing)} mm, but {name} has {_numbers(other.spacing)} mm"
    if np.any(np.abs(np.array(volume.origin) - other.origin) > ORIGIN_TOLERANCE * spacing.min()):
        return f"its origin at {_numbers(volume.origin)} mm, but {name} at {_numbers(other.origin)} mm"
    if np.abs(np.asarray(volume.direction) - np.asarray(other.direction)).max() > DIRECTION_TOLERANCE:
        return f"other axis directions than {name}"
    return None


def _numbers(values: Any) -> str:
    return " × ".join(f"{float(value):g}" for value in values)


@dataclass(frozen=True)
class Row:
    """One line of the table: values by volume name, None where there is none."""

    section: str
    label: str
    unit: str
    digits: int
    values: dict[str, float | None]
    relative: bool = False  # show the change in percent

    @property
    def change(self) -> str:
        """What the step from before to after did, with its sign."""
        before, after = self.values.get("before"), self.values.get("after")
        if before is None or after is None:
            return ""
        if not self.relative:
            return f"{round(after - before, self.digits) + 0.0:+.{self.digits}f}"
        # Of what is nothing at the digits shown there are no percent.
        return f"{round(100 * (after / before - 1)):+d} %" if round(before, self.digits) > 0 else ""

    def text(self, name: str) -> str:
        """The value of a volume as it stands in the table."""
        value = self.values.get(name)
        return "" if value is None else f"{value:.{self.digits}f}"


def rows(metrics: dict[str, Any]) -> list[Row]:
    """Choose from `compare`'s result what a reader wants to see, in reading order."""
    names = ("before", "after", "reference")
    chosen: list[Row] = []

    def add(
        section: str, label: str, unit: str, digits: int, values: dict[str, Any], relative: bool = False
    ) -> None:
        present = {name: values.get(name) for name in names}
        if any(value is not None for value in present.values()):
            chosen.append(Row(section, label, unit, digits, present, relative))

    likeness = metrics["similarity"]
    section = f"Likeness to {likeness['against']}"
    for window in ("full", "lung", "soft"):
        for key, label, unit, digits in (
            ("psnr_dB", "PSNR", "dB", 2),
            ("ssim", "SSIM", "", 4),
            ("rmse_HU", "RMSE", "HU", 1),
        ):
            values = {name: likeness[name][window][key] for name in names if name in likeness}
            add(section, f"{label}, {WINDOW_NAMES[window]}", unit, digits, values)
    for tissue in ("soft", "lung", "air"):
        found = metrics["noise"][tissue] or {}
        values = {name: found.get(f"{name}_HU") for name in names}
        add("Noise", f"SD in {TISSUE_NAMES[tissue]}", "HU", 1, values, relative=True)
    spectrum = metrics["noise"]["nps"] or {}
    values = {name: spectrum[name]["mean_per_mm"] for name in names if name in spectrum}
    add("Noise", "Mean frequency of its spectrum", "1/mm", 2, values)
    for kind, label in (("skin_air", "Skin"), ("lung_soft", "Lung border")):
        found = metrics["sharpness"][kind] or {}
        for key, what, unit in (("width_mm", "10–90 % width", "mm"), ("mtf50_per_mm", "MTF50", "1/mm")):
            values = {name: found[name][key] for name in names if name in found}
            add("Sharpness", f"{label}: {what}", unit, 2, values, relative=True)
    for tissue, found in metrics["tissue"].items():
        values = {name: (found or {}).get(f"{name}_HU") for name in names}
        add("Mean HU", TISSUE_NAMES[tissue].capitalize(), "HU", 1, values)
    sd = (metrics["tissue"]["soft"] or {}).get("change_sd_HU")
    add("Mean HU", "SD of after − before, soft tissue", "HU", 1, {"after": sd})
    found = metrics["flicker"] or {}
    add(
        "Slice to slice", "Flicker", "HU", 2, {name: found.get(f"{name}_HU") for name in names}, relative=True
    )
    add("Slice to slice", "Flicker added", "HU", 2, {"after": found.get("added_HU")})
    return chosen


WINDOW_NAMES = {"full": "±1000 HU", "lung": "lung window", "soft": "soft-tissue window"}
TISSUE_NAMES = {"air": "air", "lung": "lung", "fat": "fat", "soft": "soft tissue", "bone": "bone"}


def table(metrics: dict[str, Any]) -> str:
    """Return the chosen measures of `compare`'s result as a plain-text table, 100 columns wide at most."""
    import io

    from rich import box
    from rich.console import Console
    from rich.table import Table

    chosen = rows(metrics)
    names = [name for name in ("before", "after", "reference") if any(row.text(name) for row in chosen)]
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    grid.add_column("")
    for name in [*names, "change"]:
        grid.add_column(name, justify="right", no_wrap=True)
    grid.add_column("", no_wrap=True)
    section = ""
    for row in chosen:
        if row.section != section:
            if section:
                grid.add_section()
            section = row.section
            grid.add_row(section.upper())
        grid.add_row(f"  {row.label}", *(row.text(name) for name in names), row.change, row.unit)
    text = io.StringIO()
    Console(file=text, width=100, color_system=None, force_terminal=False).print(grid)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()).strip("\n")
