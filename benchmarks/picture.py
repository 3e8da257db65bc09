"""One picture a patient: input, peers, the project's models and the reference in the same window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cases import Case
from ctenhance.quality.metrics import WINDOWS
from ctenhance.runtime.files import replace_when_done

Array = np.ndarray

#: Peers that are shown; the others are in the tables.
SHOWN_PEERS = ("TV", "BM3D", "TV, slice-tuned", "BM3D, slice-tuned")
#: Share of a slice that must be lung for the lung window to be chosen.
LUNG_SHARE = 0.10
LUNG_HU = (-950.0, -650.0)
#: Side of the detail, as a share of the shorter side of the slice.
DETAIL = 0.3


def window_of(image: Array) -> str:
    """'lung' or 'soft', by what the reference slice (HU `[y, x]`) shows."""
    share = float(np.mean((image > LUNG_HU[0]) & (image < LUNG_HU[1])))
    return "lung" if share > LUNG_SHARE else "soft"


def worst_of(facts: Mapping[str, Any]) -> int | None:
    """The slice on which the best of the project's models gains least over its input; None without any."""
    methods = facts["methods"]
    ours = [record for record in methods.values() if record["kind"] == "ours"]
    if not ours:
        return None
    before = methods["input"]["psnr"]
    best = max(ours, key=lambda record: sum(record["psnr"].values()))
    return int(min(best["psnr"], key=lambda z: best["psnr"][z] - before[z]))


def write_picture(
    path: Path,
    case: Case,
    images: Mapping[str, Mapping[int, Array]],
    facts: Mapping[str, Any],
    at: int | None = None,
) -> None:
    """Write whole slices above a detail of them: slice `at` of the methods that were run on it, or one that
    every shown method was run on."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    methods = facts["methods"]
    shown = [
        name for name in images if methods[name]["kind"] not in ("peer", "ceiling") or name in SHOWN_PEERS
    ]
    if at is not None:
        shown = [name for name in shown if at in images[name]]
    common = sorted(set.intersection(*(set(images[name]) for name in shown)))
    z = common[len(common) // 2] if at is None else at
    panels = {name: images[name][z] for name in shown} | {"reference": case.reference[z]}
    window = window_of(case.reference[z])
    level, width = WINDOWS[window]
    rows, columns = case.reference[z].shape
    side = int(DETAIL * min(rows, columns))
    y, x = (rows - side) // 2, (columns - side) // 3
    figure = Figure(figsize=(3.2 * len(panels), 3.2 * rows / columns + 3.5), layout="constrained")
    axes = figure.subplots(2, len(panels), squeeze=False)
    look = {"cmap": "gray", "vmin": level - width / 2, "vmax": level + width / 2}
    for k, (name, image) in enumerate(panels.items()):
        figures = methods.get(name)
        figures_text = (
            f"\n{figures['psnr'][str(z)]:.2f} dB, SSIM {figures['ssim'][str(z)]:.3f}" if figures else "\n"
        )
        axes[0, k].set_title(name + figures_text, fontsize=9)
        axes[0, k].imshow(image, interpolation="bilinear", **look)
        axes[1, k].imshow(image[y : y + side, x : x + side], interpolation="nearest", **look)
        for ax in axes[:, k]:
            ax.set_axis_off()
    figure.suptitle(f"{case.name}, slice {z}, {window} window ({level:g}, {width:g} HU)", fontsize=10)
    with replace_when_done(path) as temporary:
        figure.savefig(temporary, dpi=110)


def write_reliability(path: Path, patients: Sequence[Mapping[str, Any]]) -> bool:
    """Write how often the reference lies within intervals of each level, a line a method and patient; False
    where no method has a spread."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), layout="constrained")
    ax = figure.subplots()
    ax.plot([0, 1], [0, 1], color="0.6", linewidth=1)
    methods = [name for name, record in patients[0]["methods"].items() if "coverage" in record]
    for number, name in enumerate(methods):
        for k, patient in enumerate(patients):
            levels = patient["methods"][name]["coverage"]["levels"]
            x = [float(level) for level in levels]
            label = name if k == 0 else None
            ax.plot(x, list(levels.values()), f"C{number}.-", linewidth=1, label=label)
    ax.set(xlabel="level of the interval", ylabel="share of pixels inside", xlim=(0.45, 1), ylim=(0.45, 1))
    ax.legend(title="one line a patient")
    if methods:
        with replace_when_done(path) as temporary:
            figure.savefig(temporary, dpi=110)
    return bool(methods)
