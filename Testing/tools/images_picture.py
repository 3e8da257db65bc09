"""The picture of the real photon-counting measurement in docs/decompose.md, and the figures beside it.

    python Testing/tools/images_picture.py ../shared/data/spectral/microct_8bins_real.npz

The measurement (Di Trapani, Brombal, Brun, Opt Express 30:42995, 2022) is not part of the project.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from PIL import Image

import ctenhance
from ctenhance.core.volume import CTVolume

BASIS = {"water": "M_water", "bone": "M_bone", "iodine": "M_I", "barium": "M_Ba", "gadolinium": "M_Gd"}
VIALS = {"iodine": (316, 136), "barium": (454, 176), "gadolinium": (516, 300)}
RADIUS_PX, PIXEL_MM = 45, 0.0453
SHOWN = {"water": 1500, "bone": 1200, "iodine": 45, "barium": 45, "gadolinium": 45}
PICTURE = Path(__file__).resolve().parents[2] / "docs" / "pictures" / "decompose-real.png"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    with np.load(parser.parse_args().data, allow_pickle=False) as file:
        planes = np.moveaxis(file["mu_per_cm"], -1, 0)
        table = {
            f"bin{i + 1}": {name: float(file[key][i]) for name, key in BASIS.items()}
            for i in range(len(planes))
        }
    spacing = (PIXEL_MM, PIXEL_MM, PIXEL_MM)
    images = {label: CTVolume(plane[None], spacing) for label, plane in zip(table, planes, strict=True)}
    for most in (2, None):
        result = ctenhance.decompose_images(
            images,
            basis=tuple(BASIS),
            attenuation=table,
            unit="1/cm",
            nonnegative=True,
            at_most=most,
            residual=True,
        )
        print(
            f"at most {most or len(BASIS)} materials a voxel: mg/mL in the vials, share of the agents' mass"
        )
        for vial, means in _means(result.volumes).items():
            agents = {name: means[name] for name in VIALS}
            print(f"  {vial}: {100 * agents[vial] / sum(agents.values()):.1f} %", _rounded(means))
        print("  residual:", {k: _rounded(v) for k, v in result.report["details"]["residual"].items()})
        print("  misfit:", round(result.report["details"]["misfit"], 2))
        if most == 2:
            _draw(result, planes)


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in values.items()}


def _means(maps: dict[str, CTVolume]) -> dict[str, dict[str, float]]:
    y, x = np.ogrid[:690, :690]
    inside = {v: (y - row) ** 2 + (x - column) ** 2 < RADIUS_PX**2 for v, (row, column) in VIALS.items()}
    return {
        vial: {name: float(maps[name].array[0][where].mean()) for name in BASIS}
        for vial, where in inside.items()
    }


def _draw(result: ctenhance.Result, planes: np.ndarray) -> None:
    figure, axes = plt.subplots(2, 4, figsize=(13, 6.8), facecolor="black")
    shown = [("bin 1, 1/cm", planes[0], 1.5, "gray"), ("bin 8, 1/cm", planes[7], 1.0, "gray")]
    shown += [
        (f"{n}, mg/mL", result.volumes[n].array[0], m, "gray" if m > 100 else "inferno")
        for n, m in SHOWN.items()
    ]
    shown += [("residual, noise", result.maps["residual"].array[0], 5, "gray")]
    for axis, (title, image, most, colours) in zip(axes.flat, shown, strict=True):
        axis.imshow(image, vmin=0, vmax=most, cmap=colours, interpolation="antialiased")
        axis.set_title(title, color="white", fontsize=11)
        axis.text(8, 678, f"0 to {most:g}", color="white", fontsize=8)
        axis.axis("off")
    figure.tight_layout(pad=0.4)
    figure.savefig(PICTURE, dpi=75, facecolor="black")
    with Image.open(PICTURE) as picture:
        small = picture.convert("RGB").quantize(128, dither=Image.Dither.NONE)
    small.save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
