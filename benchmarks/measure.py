"""What each method does to each patient: images, and the figures that are taken from them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from scipy import ndimage

from cases import Case
from ctenhance.choices import DEFAULT_ENHANCE_STEPS
from ctenhance.enhancement.bank import own_noise
from ctenhance.enhancement.inference import WHOLE_SIDE, default_samples
from ctenhance.enhancement.models import Model, load_model
from ctenhance.enhancement.networks import ARCHITECTURES
from ctenhance.enhancement.slices import SliceEnhancer
from ctenhance.quality.flicker import flicker
from ctenhance.quality.guide import smoothed_guide
from ctenhance.quality.metrics import WINDOWS, ssim, to_window
from ctenhance.quality.noise import noise
from ctenhance.quality.sharpness import sharpness
from ctenhance.quality.tissue import tissue_bias
from ctenhance.runtime import weights
from peers import Peer, Tuned, psnr, tuned
from tables import INPUT

Array = np.ndarray
#: A model ready to run: from a volume HU `[z, y, x]` and z to that slice `[y, x]`.
Enhancer = Callable[[Array, int], Array]

#: Pixels of the slice that the speed target is given for.
PIXELS_512 = 512 * 512


@dataclass(frozen=True)
class Ours:
    """One of the project's models under the name it has in the tables."""

    label: str
    model: Model
    steps: int

    def for_volume(self, spacing_mm: float, seed: int = 0) -> Enhancer:
        """The model as `enhance` runs it, ready for slices that are `spacing_mm` apart."""
        network = self.model.on(self.model.engine("auto", "cpu", self.steps), self.steps)
        enhancer = SliceEnhancer(self.model, network, WHOLE_SIDE, seed, spacing_mm)
        draws = default_samples(self.model)
        return lambda stack, z: np.mean([enhancer(stack, z, draw) for draw in range(draws)], axis=0)


@dataclass(frozen=True)
class Plan:
    """Which methods are run, and on how many slices a patient those that take long."""

    models: tuple[Ours, ...]
    peers: tuple[Peer, ...]
    slow_slices: int | None

    def slices_of(self, peer: Peer, chosen: Sequence[int]) -> tuple[int, ...]:
        """The slices of `chosen` that `peer` is run on: all, or for a slow one the middle of each part."""
        if not peer.one_slice or self.slow_slices is None or self.slow_slices >= len(chosen):
            return tuple(chosen)
        parts = np.array_split(np.asarray(chosen), self.slow_slices)
        return tuple(int(part[len(part) // 2]) for part in parts)


def our_models(
    paths: Sequence[str], steps: int | None, only: Sequence[str] | None = None
) -> tuple[Ours, ...]:
    """Every enhancing model of the registry (or those named in `only`), then the weights files `paths`.

    Raises InputError where one cannot be loaded.
    """
    registered = [
        entry.name
        for entry in weights.entries()
        if hasattr(ARCHITECTURES.get(entry.architecture), "stochastic")  # the others are parts of models
    ]
    names = registered if only is None else list(only)
    found = [(name, load_model(name)) for name in names]
    for path in paths:
        model = load_model(path)
        found.append((f"{model.entry.architecture} ({Path(path).stem})", model))
    result: list[Ours] = []
    for label, model in found:
        taken = sum(ours.label.split(" #")[0] == label for ours in result)
        count = (steps or DEFAULT_ENHANCE_STEPS) if model.stochastic else 1
        result.append(Ours(f"{label} #{taken + 1}" if taken else label, model, count))
    return tuple(result)


def say(text: str) -> None:
    """One line on how far it is, beside the tables and not in them."""
    print(text, file=sys.stderr, flush=True)


def measure_case(case: Case, plan: Plan) -> tuple[dict[str, Any], dict[str, dict[int, Array]]]:
    """Run every method on a patient.

    Returns the patient's figures (JSON-able; see `tables.py` for what becomes of them) and each method's
    slices by their index.
    """
    low, high = case.degraded, case.reference
    images: dict[str, dict[int, Array]] = {INPUT: {z: low[z] for z in case.chosen}}
    methods: dict[str, dict[str, Any]] = {INPUT: {"kind": INPUT, "setting": "", "seconds": None}}
    noise_hu = own_noise(low[list(case.chosen)])
    for peer in plan.peers:
        at = plan.slices_of(peer, case.chosen)
        say(f"  {peer.name}: tuning, then {len(at)} slices")
        best = tuned(peer, [low[z] for z in at], [high[z] for z in at], noise_hu)
        images[peer.name], seconds = _timed(partial(_denoise, best, low), at)
        methods[peer.name] = {"kind": "peer", "setting": best.setting, "seconds": seconds}
    guide = smoothed_guide({"reference": high}, case.spacing)
    for ours in plan.models:
        say(f"  {ours.label}: {len(case.chosen)} slices, the clean input, neighbouring slices")
        enhancer = ours.for_volume(case.spacing[2])
        images[ours.label], seconds = _timed(partial(enhancer, low), case.chosen)
        methods[ours.label] = {"kind": "ours", "setting": f"steps {ours.steps}", "seconds": seconds}
        methods[ours.label] |= _only_ours(case, guide, enhancer, images[ours.label])
    area = low[0].size
    for name, record in methods.items():
        record |= _likeness(images[name], high)
        if record["seconds"] is not None:
            record["seconds_per_512"] = record["seconds"] * PIXELS_512 / area
        record["bias"] = _bias(case, guide, images[name])
    _noise_and_edges(case, guide, images, methods)
    facts = {
        "name": case.name,
        "matrix": list(low.shape[1:]),
        "spacing_mm": list(case.spacing),
        "slices": list(case.chosen),
        "methods": methods,
    }
    return facts, images


def _denoise(best: Tuned, volume: Array, z: int) -> Array:
    return best(volume[z])


def _timed(run: Callable[[int], Array], at: Sequence[int]) -> tuple[dict[int, Array], float]:
    """The images at these slices, and the median of the seconds that one takes."""
    images, seconds = {}, []
    for z in at:
        start = time.perf_counter()
        images[z] = np.asarray(run(z), np.float32)
        seconds.append(time.perf_counter() - start)
    return images, median(seconds)


def _likeness(images: Mapping[int, Array], reference: Array) -> dict[str, dict[str, float]]:
    """PSNR (dB) and SSIM at ±1000 HU, by slice."""
    level, width = WINDOWS["full"]
    shown = {
        z: (to_window(image, level, width), to_window(reference[z], level, width))
        for z, image in images.items()
    }
    return {
        "psnr": {str(z): psnr(image, reference[z]) for z, image in images.items()},
        "ssim": {str(z): ssim(*pair) or 0.0 for z, pair in shown.items()},
    }


def _bias(case: Case, guide: Array, images: Mapping[int, Array]) -> dict[str, dict[str, float | None]]:
    """Mean HU by tissue, less the input's (`to_input`) and less the reference's (`to_reference`)."""
    at = sorted(images)
    volumes = {
        "before": case.degraded[at],
        "after": np.stack([images[z] for z in at]),
        "reference": case.reference[at],
    }
    found = tissue_bias(volumes, guide[at], case.spacing)
    return {
        tissue: {"to_input": values["change_HU"], "to_reference": values["after_bias_HU"]}
        for tissue, values in found.items()
        if values is not None
    }


def _noise_and_edges(
    case: Case, guide: Array, images: Mapping[str, Mapping[int, Array]], methods: dict[str, dict[str, Any]]
) -> None:
    """Add to each method its noise SD in soft tissue and its MTF50 as a share of the reference's."""
    for name, record in methods.items():
        at = sorted(images[name])
        volumes = {"after": np.stack([images[name][z] for z in at]), "reference": case.reference[at]}
        soft = noise(volumes, guide[at], case.spacing)["soft"]
        record["noise_hu"] = soft and soft["after_HU"]
        record["reference_noise_hu"] = soft and soft["reference_HU"]
        spacing = (*case.spacing[:2], case.stride_mm)
        record["mtf50_share"] = {}
        for kind, found in sharpness(volumes, guide[at], spacing).items():
            here, truth = ((found or {}).get(key, {}).get("mtf50_per_mm") for key in ("after", "reference"))
            if here and truth:
                record["mtf50_share"][kind] = here / truth


def _only_ours(case: Case, guide: Array, enhancer: Enhancer, done: Mapping[int, Array]) -> dict[str, Any]:
    """What is asked of the project's own models alone: clean inputs stay, neighbouring slices agree."""
    run = list(case.contiguous)
    volumes = {
        "before": case.degraded[run],
        "after": np.stack([done[z] if z in done else enhancer(case.degraded, z) for z in run]),
        "reference": case.reference[run],
    }
    x, y, z = case.spacing
    return {
        "clean": _change(enhancer, case.reference, case.spacing, case.chosen),
        "quiet": _change(enhancer, quiet_copy(case.reference), (2 * x, 2 * y, z), case.chosen),
        "flicker": flicker(volumes, guide[run], case.spacing),
    }


def quiet_copy(array: Array) -> Array:
    """A scan `[z, y, x]` with about a third of the noise: 2 x 2 pixels and 3 slices averaged."""
    rows, columns = (n // 2 * 2 for n in array.shape[1:])
    cut = array[:, :rows, :columns].reshape(len(array), rows // 2, 2, columns // 2, 2).mean((2, 4))
    return ndimage.uniform_filter1d(cut, 3, axis=0, mode="nearest")


def _change(
    enhancer: Enhancer, array: Array, spacing: tuple[float, float, float], chosen: Sequence[int]
) -> dict[str, Any]:
    """SD of what enhancing a clean scan `[z, y, x]` changes in flat soft tissue, and its own noise there."""
    at = list(chosen)
    guide = smoothed_guide({"reference": array}, spacing)
    volumes = {"before": array[at], "after": np.stack([enhancer(array, z) for z in at])}
    soft = tissue_bias(volumes, guide[at], spacing)["soft"]
    own = noise({"before": array}, guide, spacing)[
        "soft"
    ]  # of all slices: a few have too few uniform regions
    return {"change_sd_hu": soft and soft["change_sd_HU"], "noise_hu": own and own["before_HU"]}
