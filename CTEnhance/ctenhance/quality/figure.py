"""A picture of before, after and their difference: axial slice, enlarged detail, coronal slice."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ctenhance.core.volume import CTVolume
from ctenhance.core.windows import Window, chosen_window, difference_limit
from ctenhance.quality.compare import same_grid
from ctenhance.quality.display import NOTICE, Upright, best_slice, body_box, detail_box
from ctenhance.quality.guide import smoothed_guide
from ctenhance.quality.noise import noise
from ctenhance.runtime.files import check_output, replace_when_done

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".pdf", ".svg")
DIFFERENCE = "after − before"
COLUMN, TOP, BOTTOM, RIGHT, GAP = 4.8, 0.8, 0.75, 0.95, 0.14  # inches: of the layout
TALLEST, LOWEST = 1.25, 0.1  # height of a view by the width of its column
MARGIN_MM = 8.0
NOISE_SLICES = 24
DOTS_PER_INCH = 120
DARK, LIGHT, MUTED, ACCENT = "#101418", "#e8edf2", "#9aa7b4", "#ffc35c"
DIFFERENCE_COLOURS = ("#bfe6ff", "#2f86e0", "#0d3b6e", "#0b0d10", "#6e3a0d", "#e0762f", "#ffe3bf")


def figure(
    before: CTVolume,
    after: CTVolume,
    path: str | os.PathLike[str],
    reference: CTVolume | None = None,
    window: str | Window | None = None,
    metrics: dict[str, Any] | None = None,
) -> None:
    """Write before | after | (reference) | after − before to a .png, .pdf or .svg.

    All are shown in the same window, (level, width) in HU or the name of a preset; None takes the lung window
    for a slice that shows much lung, else that of soft tissue. The slice and the detail are those with the
    most to see. `metrics`, the result of `compare`, spares measuring the noise of the caption once more.
    Nothing of the volumes' meta data is shown. Raises InputError for different grids, an unknown window and a
    path that cannot be written.
    """
    target = check_output(path, SUFFIXES)
    volumes = same_grid(before, after, reference)
    grid = volumes["before"]
    upright = Upright.of(grid)
    shown = {name: upright.turn(volume.array) for name, volume in volumes.items()}
    guide_name = "reference" if reference is not None else "after"
    middle = len(grid.array) // 2
    label, chosen = chosen_window(window, shown[guide_name][middle])
    caption = _noise_caption(volumes, metrics)
    picture = _draw(shown, grid.spacing, upright, guide_name, (label, *chosen), caption)
    with replace_when_done(target) as temporary:
        # Without a date the same volumes give the same file.
        date = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}.get(target.suffix.lower(), {})
        picture.savefig(temporary, dpi=DOTS_PER_INCH, facecolor=DARK, metadata=date)


def _noise_caption(volumes: dict[str, CTVolume], metrics: dict[str, Any] | None) -> str:
    if metrics is not None:
        found = metrics["noise"]["soft"]
    else:
        depth = len(volumes["before"].array)
        every = np.unique(np.linspace(0, depth - 1, min(depth, NOISE_SLICES)).astype(int))
        arrays = {name: volume.array[every] for name, volume in volumes.items()}
        spacing = volumes["before"].spacing
        found = noise(arrays, smoothed_guide(arrays, spacing), spacing)["soft"]
    if found is None:
        return "Noise: no uniform soft tissue found."
    values = "before {before_HU:.1f} HU, after {after_HU:.1f} HU".format(**found)
    if "reference_HU" in found:
        values += f", reference {found['reference_HU']:.1f} HU"
    return f"Noise (SD in uniform soft tissue): {values}."


@dataclass(frozen=True)
class _View:
    """A cut through the volumes: which voxels, and how tall a pixel is by its width."""

    name: str
    cut: Callable[[np.ndarray], np.ndarray]
    aspect: float

    def height(self, volume: np.ndarray) -> float:
        """Of the view by the width of its column."""
        rows, columns = self.cut(volume).shape
        return float(np.clip(rows * self.aspect / columns, LOWEST, TALLEST))


def _draw(
    shown: dict[str, np.ndarray],
    spacing: tuple[float, float, float],
    upright: Upright,
    guide_name: str,
    window: tuple[str, float, float],
    caption: str,
) -> Figure:
    # The object interface with its own canvas: nothing global is touched and no display is needed.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    label, level, width = window
    dx, dy, dz = spacing
    guide = shown[guide_name]
    k = best_slice(guide, (level, width))
    body = body_box(guide[k], round(MARGIN_MM / dx))
    inner = detail_box(guide[k][body], (level, width), spacing)
    detail = (_inside(body[0], inner[0]), _inside(body[1], inner[1]))
    row = (detail[0].start + detail[0].stop) // 2
    views = [
        _View("axial", lambda volume: volume[k][body], dy / dx),
        _View("detail", lambda volume: volume[k][detail], dy / dx),
        _View("coronal", lambda volume: volume[::-1, row, body[1]], dz / dx),
    ]
    views = views[: 2 if len(guide) == 1 else 3]
    heights = [COLUMN * view.height(guide) for view in views]
    names = [*shown, DIFFERENCE]
    size = (COLUMN * len(names) + RIGHT, sum(heights) + GAP * (len(views) - 1) + TOP + BOTTOM)
    picture = Figure(figsize=size, facecolor=DARK)
    FigureCanvasAgg(picture)

    limit = difference_limit((shown["after"][k] - shown["before"][k])[body])
    for number, view in enumerate(views):
        below = size[1] - TOP - sum(heights[: number + 1]) - GAP * number
        for column, name in enumerate(names):
            place = (
                (GAP + COLUMN * column) / size[0],
                below / size[1],
                (COLUMN - GAP) / size[0],
                heights[number] / size[1],
            )
            axes = picture.add_axes(place)
            axes.set_axis_off()
            if name == DIFFERENCE:
                values, scale = view.cut(shown["after"]) - view.cut(shown["before"]), (-limit, limit)
            else:
                values, scale = view.cut(shown[name]), (level - width / 2, level + width / 2)
            image = axes.imshow(
                values,
                cmap=_colours() if name == DIFFERENCE else "gray",
                vmin=scale[0],
                vmax=scale[1],
                aspect=view.aspect,
                interpolation="bilinear" if view.name == "detail" and name != DIFFERENCE else "nearest",
            )
            if number == 0:
                axes.set_title(name.capitalize(), color=LIGHT, fontsize=14)
                _frame(axes, inner)
            if column == 0:
                _letters(axes, view.name, upright)
                if view.name != "coronal":
                    _scale_bar(axes, values.shape, dx, 20 if view.name == "detail" else 50)

    _colour_bar(picture, image, size)
    text = (
        f"{label} {level:g}/{width:g} HU · slice {k + 1} of {len(guide)} · {dx:.2f} × {dy:.2f} × {dz:.2f} mm"
    )
    left, right, heading = GAP / size[0], 1 - RIGHT / size[0], 1 - 0.28 / size[1]
    picture.text(left, heading, "CT before and after", color=LIGHT, fontsize=16, weight="bold", va="center")
    picture.text(right, heading, text, color=MUTED, fontsize=12, ha="right", va="center")
    picture.text(left, 0.46 / size[1], caption, color=LIGHT, fontsize=12, va="center")
    picture.text(left, 0.2 / size[1], NOTICE, color=ACCENT, fontsize=12, va="center")
    return picture


def _inside(outer: slice, inner: slice) -> slice:
    """The inner range, counted from where the outer one is counted from."""
    return slice(outer.start + inner.start, outer.start + inner.stop)


def _colour_bar(picture: Figure, image: Any, size: tuple[float, float]) -> None:
    height = min(3.0, size[1] - TOP - BOTTOM)
    place = (1 - (RIGHT - 0.08) / size[0], 1 - (TOP + height) / size[1], 0.16 / size[0], height / size[1])
    bar = picture.colorbar(image, cax=picture.add_axes(place))
    bar.set_label("HU", color=LIGHT)
    bar.ax.tick_params(colors=LIGHT)
    bar.outline.set_edgecolor(MUTED)


def _colours() -> Any:
    """Diverging and dark in the middle: what did not change stays in the background."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("difference", DIFFERENCE_COLOURS)


def _frame(axes: Axes, detail: tuple[slice, slice]) -> None:
    """Frame the detail that is enlarged below."""
    from matplotlib.patches import Rectangle

    corner = (detail[1].start - 0.5, detail[0].start - 0.5)
    size = (detail[1].stop - detail[1].start, detail[0].stop - detail[0].start)
    axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=ACCENT, linewidth=1.0))


def _letters(axes: Axes, view: str, upright: Upright) -> None:
    """Name the patient's sides at the border of the view."""
    if view == "detail":
        return
    x, y, _ = upright.letters
    places = [(0.012, 0.5, x[0], "left", "center"), (0.988, 0.5, x[1], "right", "center")]
    if view == "axial":
        places += [(0.5, 0.99, y[0], "center", "top"), (0.5, 0.01, y[1], "center", "bottom")]
    for across, up, letter, horizontal, vertical in places:
        text = axes.text(across, up, letter, color=ACCENT, fontsize=11, ha=horizontal, va=vertical)
        text.set_transform(axes.transAxes)
        text.set_path_effects(_outline())


def _scale_bar(axes: Axes, shape: tuple[int, ...], pixel_mm: float, length_mm: float) -> None:
    pixels = length_mm / pixel_mm
    if pixels > 0.6 * shape[1] or shape[0] < 24:
        return
    y, x = shape[0] * 0.95, shape[1] * 0.03
    axes.plot(
        [x, x + pixels], [y, y], color=LIGHT, linewidth=2, solid_capstyle="butt", path_effects=_outline()
    )
    text = axes.text(x, y - shape[0] * 0.02, f"{length_mm / 10:g} cm", color=LIGHT, fontsize=10, va="bottom")
    text.set_path_effects(_outline())


def _outline() -> list[Any]:
    """A dark rim that keeps marks readable on bright tissue."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=2.5, foreground=DARK)]
