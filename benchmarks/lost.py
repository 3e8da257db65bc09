"""What faint lesions lose, against the noise that is left: the project's models beside filters.

    python benchmarks/lost.py ../shared/data/ct --slices 4 --out results

Lesions of -25 HU are drawn into liver and like tissue of held-out patients before the dose is lowered
(`lesions.py`). Any method can keep them by keeping the noise. So each filter is run at the strength that
leaves as much noise as the one-step network does on the same scan, and the network at lower strengths and
with faint structures kept; the diffusion as one draw and as the mean of several; networks of others with
`--trained`. With `--out` what each method made of each scan is kept.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from cases import HELD_OUT
from ctenhance.core.blend import blend
from ctenhance.core.volume import CTVolume
from ctenhance.physics.phantom import chest_phantom
from ctenhance.quality.guide import smoothed_guide
from ctenhance.quality.noise import detrended, noise_sd
from ctenhance.runtime.files import write_text
from ending import one_sentence
from kept import Store
from lesions import (
    DIAMETERS_MM,
    PATCH_MM,
    WHOLE,
    Array,
    Groups,
    Process,
    faint_kept,
    grain,
    held_out,
    invented,
    lowered,
    measure_patient,
    patches,
    places,
    summary,
)
from methods import Ours, Trained, our_models
from peers import Peer, all_peers
from tables import Table

#: The noise (HU) that is left in a slice `[y, x]`.
Left = Callable[[Array], float]
KIND, FULL_DOSE = "liver", "scan at full dose"
STRENGTHS = (0.5, 0.75)
KEPT = (0.5, 1.0)
#: Steps of the search for the strength of a filter, and the factor that it begins with.
STEPS, FACTOR = 5, 2.0

NOTE = (
    "Noise left: SD in HU in patches of liver and like tissue without a lesion, mean over patients; filters "
    "are at the strength that leaves as much as the one-step network at full strength, found per scan. "
    "Kept and lost as in lesions.py; area: of the channelised Hotelling observer for 4 mm; "
    "blobs: on phantoms, in the image and not in the noise-free truth."
)


def noise_left(squares: Array) -> float:
    """SD (HU) of the noise in patches `[place, y, x]` of one tissue; those with vessels count little."""
    return float(noise_sd(detrended(squares)))


def at_noise(peer: Peer, image: Array, left: Left, level_hu: float, noise_hu: float) -> tuple[Process, str]:
    """A filter on volumes HU `[z, y, x]` at the strength that leaves `level_hu` of noise in this slice
    `[y, x]`, as `left` measures it; and that strength in words."""
    name, filtered = next(iter(peer.variants.items()))

    def more(strength: float) -> bool:
        return left(filtered(image, strength, noise_hu)) > level_hu

    below = above = peer.start
    while more(above) and above < 100 * peer.start:  # `above` smooths enough, `below` not
        below, above = above, FACTOR * above
    while not more(below) and below > peer.start / 100:
        below, above = below / FACTOR, below
    for _ in range(STEPS):
        middle = math.sqrt(below * above)
        below, above = (middle, above) if more(middle) else (below, middle)
    strength = math.sqrt(below * above)

    def process(array: Array) -> Array:
        return np.stack([filtered(image, strength, noise_hu) for image in array])

    return process, f"{strength:.2f}" + (f", {name}" if name else "")


def methods_for(
    low: Array,
    z: int,
    left: Left | None,
    spacing: Sequence[float],
    models: Sequence[Ours],
    peers: Sequence[Peer],
    trained: Sequence[Trained] = (),
) -> tuple[dict[str, Process], dict[str, str]]:
    """What is done to a scan `low` HU `[z, y, x]`, by name, and the settings of the filters: by the noise
    that `left` measures in slice `z`. Without `left` there are none."""
    found: dict[str, Process] = {"scan itself": lambda array: array}
    full = cached(mean_of(models[0], spacing[2]))
    for strength in STRENGTHS:
        found[f"{models[0].label}, strength {strength:g}"] = lambda array, s=strength: blend(
            array, full(array), s
        )
    for share in KEPT:
        x, y, z_mm = spacing
        found[f"{models[0].label}, faint kept {share:g}"] = faint_kept(full, share, (x, y, z_mm))
    found[models[0].label] = full
    found |= {
        other.label: lambda array, other=other: np.stack(
            [other.slice_of(array, z) for z in range(len(array))]
        )
        for other in trained
    }
    found |= {ours.label: mean_of(ours, spacing[2]) for ours in models[1:]}
    settings = {}
    for peer in peers if left is not None else ():
        name = f"{peer.name}, as much noise"
        found[name], settings[name] = at_noise(peer, low[z], left, left(full(low)[z]), left(low[z]))
    return found, settings


def in_liver(volume: CTVolume, seed: int) -> tuple[int, Left | None]:
    """The slice with most places for a lesion, and the noise in patches round these; None without any."""
    guide = smoothed_guide({"reference": volume.array}, volume.spacing)
    at, side = places(guide, volume.spacing, KIND, seed), round(PATCH_MM / volume.spacing[0])
    slices = [z for z, _, _ in at]
    most = max(set(slices), key=slices.count, default=0)
    only = [(0, y, x) for z, y, x in at if z == most]
    return most, (lambda image: noise_left(patches(image[None], only, side))) if only else None


def blobs(
    models: Sequence[Ours], peers: Sequence[Peer], dose: float, phantoms: int, trained: Sequence[Trained] = ()
) -> dict[str, list[float]]:
    """By method the blobs a slice that are in the image and not in the noise-free truth, on phantoms whose
    full dose leaves 15 HU, and how many of those are not in the scan either (`lesions.invented`)."""
    counts: dict[str, list[tuple[int, int]]] = {}
    for seed in range(phantoms):
        truth = chest_phantom(384, 384, 5, 0.9, 2.0, seed=10 + seed)
        noise = grain(np.random.default_rng(seed), truth.array.shape, 15.0)
        low = lowered(truth.with_array(truth.array + noise), dose, seed)
        pixel, middle = truth.spacing[0], len(low) // 2
        clean = truth.array[middle]
        edges = ndimage.maximum_filter(ndimage.gaussian_gradient_magnitude(clean, 1.0), round(3 / pixel))
        flat = (np.abs(clean) < 150) & (edges < 5)

        def left(image: Array, clean: Array = clean, flat: Array = flat) -> float:
            return float((image - clean)[flat].std())

        methods, _ = methods_for(low, middle, left, truth.spacing, models, peers, trained)
        full_dose = truth.array + noise
        for name, process in {FULL_DOSE: lambda array, full=full_dose: full, **methods}.items():
            for image, other, scan in list(zip(process(low), truth.array, low, strict=True))[1:-1]:
                found = invented(image, other, pixel), invented(image, other, pixel, scan)
                counts.setdefault(name, []).append(found)
    return {name: [float(value) for value in np.mean(found, 0)] for name, found in counts.items()}


def mean_of(ours: Ours, spacing_mm: float) -> Process:
    """The mean of a model's draws, slice by slice."""
    enhancer = ours.for_volume(spacing_mm)

    def process(array: Array) -> Array:
        return np.stack(
            [np.mean([enhancer(array, z, draw) for draw in range(ours.draws)], 0) for z in range(len(array))]
        )

    return process


def cached(process: Process) -> Process:
    """The same, with the last arrays' results at hand."""
    known: dict[bytes, Array] = {}

    def run(array: Array) -> Array:
        key = array.tobytes()
        if key not in known:
            known[key] = process(array)
        return known[key]

    return run


def row(name: str, found: Sequence[Groups]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """A method's row of the table and its figures."""
    groups_of = [{name: group for name, group in one.items() if name.startswith(KIND)} for one in found]
    with_any = [one for one in groups_of if one]
    left = [noise_left(np.concatenate([group["absent"] for group in one.values()])) for one in with_any]
    groups = summary(with_any)
    facts: dict[str, Any] = {"noise_hu": left}
    cells = [name, f"{np.mean(left):.1f}"]
    for diameter in DIAMETERS_MM:
        one = groups[f"{KIND} {diameter:g} mm"]
        facts[f"{diameter:g}"] = {key: one.get(key) for key in ("lesions", "kept", "lost", "area", "limits")}
        cells += [f"{one['kept']:.2f}", f"{one['lost']:.0%}"]
    one = groups[f"{KIND} {DIAMETERS_MM[0]:g} mm"]
    cells.append(f"{one['area']:.3f}" if "area" in one else "–")
    facts["psnr"] = [
        float(each[WHOLE]["psnr"].mean()) for each, some in zip(found, groups_of, strict=True) if some
    ]
    cells.append(f"{np.mean(facts['psnr']):.2f}")
    return tuple(cells), facts


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("data", type=Path)
    add("--only", nargs="+", default=HELD_OUT, help="parts of the names of the scans to use")
    add("--dose", type=float, default=0.25)
    add("--slices", type=int, default=4, help="of the middle of each scan")
    add(
        "--model", nargs="+", default=["enhance-twin", "enhance-diffusion"], help="the one-step network first"
    )
    add("--draws", type=int, default=8)
    add("--peers", nargs="*", help="filters to take (default: all)")
    add("--trained", type=Path, nargs="*", default=[], help="networks that train_peers.py trained")
    add("--phantoms", type=int, default=4, help="phantoms for invented structures")
    add("--seed", type=int, default=3)
    add("--out", type=Path)
    with one_sentence():
        _run(parser.parse_args())


def _run(given: argparse.Namespace) -> None:
    models = our_models([], None, given.model, given.draws)
    models = [ours for ours in models if ours.draws == 1 or ours.model.stochastic]
    peers = [peer for peer in all_peers(1) if given.peers is None or peer.name in given.peers]
    trained = [Trained(path) for path in given.trained]
    store = Store(None if given.out is None else given.out / "kept")
    by_method: dict[str, list[Groups]] = {}
    settings: dict[str, list[str]] = {}
    for number, volume in enumerate(held_out(given.data, given.only, given.slices)):
        seed = given.seed + number
        low = lowered(volume, given.dose, seed)
        methods, chosen = methods_for(low, *in_liver(volume, seed), volume.spacing, models, peers, trained)
        keys: dict[str, Any] = {one.label: one.key() for one in (*models, *trained)}
        keys |= {name: {"name": name, "network": models[0].key(), "setting": chosen.get(name)}
                 for name in methods if name not in keys}  # fmt: skip
        print(f"scan {number + 1}: {chosen}", file=sys.stderr, flush=True)
        for name, found in measure_patient(volume, given.dose, methods, seed, store, keys).items():
            by_method.setdefault(name, []).append(found)
        for name, text in chosen.items():
            settings.setdefault(name, []).append(text)
    rows, facts = [], {}
    for name, groups in by_method.items():
        cells, facts[name] = row(name, groups)
        facts[name]["settings"] = settings.get(name)
        rows.append(cells)
    found = blobs(models, peers, given.dose, given.phantoms, trained) if given.phantoms else {}
    for name, count in found.items():
        facts.setdefault(name, {})["blobs"] = count
    rows = [(*cells, f"{found[cells[0]][0]:.2f}" if cells[0] in found else "–") for cells in rows]
    if FULL_DOSE in found:
        rows.insert(0, (FULL_DOSE, *["–"] * (len(rows[0]) - 2), f"{found[FULL_DOSE][0]:.2f}"))
    sizes = [f"{d:g} mm {what}" for d in DIAMETERS_MM for what in ("kept", "lost")]
    header = ("method", "noise left HU", *sizes, f"area {DIAMETERS_MM[0]:g} mm", "PSNR dB")
    header += ("blobs a slice",)
    table = Table("Faint lesions against the noise that is left", header, tuple(rows), NOTE)
    print(table.text())
    if given.out is not None:
        write_text(given.out / "lost.json", json.dumps(facts, indent=1) + "\n")
        write_text(given.out / "lost.md", table.markdown() + "\n")


if __name__ == "__main__":
    main()
