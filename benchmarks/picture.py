"""One picture a patient: input, peers, the project's models and the reference in the same window."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cases import Case
from ctenhance.quality.metrics import WINDOWS
from ctenhance.runtime.files import replace_when_done

Array = np.ndarray

#: Peers that are shown; the others are in the tables.
SHOWN_PEERS = ("TV", "BM3D")
#: Share of a slice that must be lung for the lung window to be chosen.
LUNG_SHARE = 0.10
LUNG_HU = (-950.0, -650.0)
#: Side of the detail, as a share of the shorter side of the slice.
DETAIL = 0.3


def window_of(image: Array) -> str:
    """'lung' or 'soft', by what the reference slice (HU `[y, x]`) shows."""
    share = float(np.mean((image > LUNG_HU[0]) & (image < LUNG_HU[1])))
    return "lung" if share > LUNG_SHARE else "soft"


def write_picture(
    path: Path, case: Case, images: Mapping[str, Mapping[int, Array]], facts: Mapping[str, Any]
) -> None:
    """Write whole slices above a detail of them, from a slice that every shown method was run on."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    methods = facts["methods"]
    shown = [name for name in images if methods[name]["kind"] != "peer" or name in SHOWN_PEERS]
    common = sorted(set.intersection(*(set(images[name]) for name in shown)))
    z = common[len(common) // 2]
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
