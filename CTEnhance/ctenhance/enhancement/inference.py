"""The pipeline: a CT volume of any size in, the enhanced volume out, batch by batch of its slices."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Semaphore
from typing import TYPE_CHECKING

import numpy as np

from ctenhance.choices import DEFAULT_ENHANCE_STEPS, SPREAD_SAMPLES
from ctenhance.core.blend import blend, with_faint_kept
from ctenhance.core.report import ReportBuilder, Result
from ctenhance.core.volume import CTVolume
from ctenhance.enhancement.draws import Draws
from ctenhance.enhancement.models import Model, bring, load_model
from ctenhance.enhancement.sampler import fitted
from ctenhance.enhancement.slices import SliceEnhancer
from ctenhance.enhancement.symmetry import SYMMETRIES
from ctenhance.options import EnhanceOptions, chosen
from ctenhance.runtime import large
from ctenhance.runtime.device import free_memory, halvings, with_memory_fallback
from ctenhance.runtime.engines.base import AUTO, OPENVINO, Engine
from ctenhance.runtime.engines.choice import installed
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.progress import Cancellable, Progress, check

if TYPE_CHECKING:
    import torch

#: Longest side of a slice (pixels) that is tried whole before it is cut into tiles.
WHOLE_SIDE = 1024
SMALLEST_TILE = 128
#: Where a volume is stored in other planes, the model works on its axial ones unless their pixels are more
#: oblong (long by short side) than this.
MOST_OBLONG = 1.5
#: After so many slices those behind are let go.
SLICES_KEPT = 32
#: Slices in a batch on a CPU, and the most on a graphics card; bytes that a network takes for each pixel.
CPU_SLICES, MOST_SLICES, BYTES_A_PIXEL = 2, 64, 1024


@dataclass(frozen=True)
class Work:
    """How many slices are worked on together, and how many such batches the network takes side by side."""

    batch: int
    at_once: int


def decide(options: EnhanceOptions) -> tuple[Model, EnhanceOptions]:
    """The model, and the options with the numbers of steps and samples that follow from it.

    Raises InputError for a model that is not there and for what it cannot do.
    """
    model = load_model(options.model)
    if options.keep_faint and options.strength == 0:
        raise InputError(
            "At strength 0 the input stays as it is, faint structures too: leave --keep-faint out."
        )
    samples = options.samples
    if samples is None:
        samples = SPREAD_SAMPLES if options.uncertainty else 1
    if not model.stochastic and samples > SYMMETRIES:
        raise InputError(
            f"The one-step model '{model.entry.name}' has only {SYMMETRIES} distinct samples "
            "(turned and mirrored slices): lower --samples or choose a diffusion model."
        )
    if not model.stochastic and options.steps not in (None, 1):
        raise InputError(
            f"The model '{model.entry.name}' works in one step: leave --steps out, or choose another model."
        )
    steps = (options.steps or DEFAULT_ENHANCE_STEPS) if model.stochastic else 1
    if model.stochastic:
        fitted(steps)
    return model, replace(options, steps=steps, samples=samples)


def load_soon(options: EnhanceOptions) -> None:
    """Begin to load the network of `options` beside other work, such as reading the volume: `enhance` with
    them takes it, and says what is wrong with them."""

    def choose() -> tuple[Model, Engine, int]:
        model, decided = decide(options)
        steps = decided.steps or 1
        return model, model.engine(decided.engine, decided.device, steps), steps

    if installed(OPENVINO):
        bring(choose)


def enhance(
    volume: CTVolume,
    *,
    model: str | Path | None = None,
    strength: float = 1.0,
    keep_faint: float = 0.0,
    steps: int | None = None,
    samples: int | None = None,
    uncertainty: bool = False,
    device: str = "auto",
    engine: str = AUTO,
    seed: int = 0,
    options: EnhanceOptions | None = None,
    progress: Progress | None = None,
    cancel: Cancellable | None = None,
) -> Result:
    """Enhance a CT: `.volumes["enhanced"]`, with `uncertainty` also `.maps["uncertainty"]` (SD in HU).

    `model`: registry name or weights file; `strength` blends input (0) and enhanced (1) after the fact;
    `keep_faint`: the share (0 to 1) of the coarse part of what is taken away that stays as it was, and with
    it more of faint lesions, and some noise (`blend.COARSE_MM`); before `strength`;
    `steps`: of a diffusion model, 3, 4, 5 or 8;
    `samples` draws are averaged (default: one, and four where `uncertainty` is asked for). Each draw turns
    and mirrors the slices; a diffusion model draws its noise, for each second draw the negative of the one
    before (antithetic), and turns the two alike. The uncertainty is the SD of the draws, pooled over 5 x 5
    pixels, times a factor that the model's registry entry has from held-out patients: 90 % of the errors are
    to lie within `choices.NINETY_PERCENT` times it. `engine`: one of `choices.ENGINES`.
    The model works on axial slices (`CTVolume.axial`), however the volume is stored. `options`: all
    of these in one object, in place of the keywords. Raises InputError for settings that cannot be,
    Cancelled when asked to stop."""
    options = chosen(
        options,
        EnhanceOptions(
            model=model,
            strength=strength,
            keep_faint=keep_faint,
            steps=steps,
            samples=samples,
            uncertainty=uncertainty,
            device=device,
            engine=engine,
            seed=seed,
        ),
    )
    volume.require_hu()
    loaded, options = decide(options)
    steps = options.steps or 1
    selected = loaded.engine(options.engine, options.device, steps)
    report = ReportBuilder("enhance", options.settings(), selected.device, options.seed)
    report.model(loaded.entry)
    factor = loaded.entry.spread_factor(options.samples or 1)
    if options.uncertainty:
        report.details["uncertainty_factor"] = factor
        report.details["uncertainty_calibrated"] = bool(loaded.entry.spread)
    report.input = volume.input_report()
    if selected.device.type == "cpu" and options.device == "auto":
        report.details["note"] = "No graphics card was used: none is available."
    stack = _slices_to_work_on(volume, report)
    if options.uncertainty and options.keep_faint:
        report.warn(
            "The uncertainty is that of the full effect: the noise that keeping faint structures leaves is "
            "not in it."
        )
    if options.uncertainty and not loaded.entry.spread:
        report.warn(
            f"The uncertainty of the model '{loaded.entry.name}' was never compared with true errors: it "
            "tells where draws differ, not how large the error is."
        )

    def run(where: torch.device, tile: int) -> dict[str, np.ndarray]:
        runner: Engine = selected.at(where)
        report.device, report.engine = where, runner
        network = loaded.on(runner, steps)
        enhancer = SliceEnhancer(loaded, network, tile, options.seed, stack.spacing[2])
        work = Work(_slices_at_once(runner, stack.array), loaded.at_once(runner))
        return _all_slices(stack, enhancer, work, options, factor, progress, cancel)

    longest = max(SMALLEST_TILE, min(WHOLE_SIDE, max(stack.array.shape[1:]) + loaded.multiple))
    longest = math.ceil(longest / loaded.multiple) * loaded.multiple
    with report.stage("enhance"):
        sizes = halvings(longest, SMALLEST_TILE)
        arrays = with_memory_fallback(run, sizes, selected.device, report.warn)
    if stack is not volume:
        arrays = {name: volume.from_axial(values) for name, values in arrays.items()}
    maps = {name: volume.with_array(values) for name, values in arrays.items()}
    return Result({"enhanced": maps.pop("enhanced")}, maps, report.finish())


def _slices_to_work_on(volume: CTVolume, report: ReportBuilder) -> CTVolume:
    """The volume with axial slices; as it is stored, and with a warning, where their pixels are far from
    square: a thick reformat in another plane."""
    axial = volume.axial()
    x, y, _ = axial.spacing
    if axial is volume or max(x, y) <= MOST_OBLONG * min(x, y):
        return axial
    report.warn(
        f"The slices are not axial, and axial planes would have pixels of {x:.2f} x {y:.2f} mm: the model, "
        "trained on axial slices, worked on those of the file. Give the axial series if there is one."
    )
    return volume


def _slices_at_once(engine: Engine, array: np.ndarray) -> int:
    """Slices in a batch: a few on a CPU, where progress and cancelling wait for them; as many on a graphics
    card as a quarter of its free memory holds."""
    if engine.device.type not in ("cuda", "mps"):
        return CPU_SLICES
    pixels = int(array.shape[1] * array.shape[2])
    return max(1, min(MOST_SLICES, free_memory(engine.device) // (4 * BYTES_A_PIXEL * pixels)))


def _all_slices(
    stack: CTVolume,
    enhancer: SliceEnhancer,
    work: Work,
    options: EnhanceOptions,
    factor: float,
    progress: Progress | None,
    cancel: Cancellable | None,
) -> dict[str, np.ndarray]:
    """The enhanced volume, and where it is asked for the SD of its draws times `factor`.

    Batches are worked on side by side, one at least being prepared while the network is at another."""
    upright = stack.upright()
    array = stack.array[upright]
    names = ("enhanced", "uncertainty") if options.uncertainty else ("enhanced",)
    whole = {name: large.empty(array.shape) for name in names}
    images = {name: image[upright] for name, image in whole.items()}
    enhancer.find_patient(array)
    permits = Semaphore(work.at_once)

    def one(start: int, stop: int) -> int:
        draws = Draws(enhancer.kind.stochastic, options.uncertainty)
        for draw in range(options.samples or 1):
            check(cancel)
            inputs = enhancer.prepared(array, start, stop, draw)
            with permits:
                draws.add(enhancer.run(inputs))
        part = slice(start, stop)
        change = draws.mean
        if options.keep_faint:
            change = with_faint_kept(change, options.keep_faint, stack.spacing)
        full = array[part] + change
        if options.strength != 1:
            full = blend(array[part], full, options.strength)
        images["enhanced"][part] = full
        if (sd := draws.sd) is not None and options.uncertainty:
            images["uncertainty"][part] = options.strength * factor * sd
        return stop

    done = 0
    for stop in _in_order(one, len(array), work, cancel):
        for z in range(done, stop):
            check(cancel)
            if progress is not None:
                progress("enhance", z + 1, len(array))
        if stop // SLICES_KEPT > done // SLICES_KEPT:
            for filled in (stack.array, *whole.values()):
                large.let_go(filled)
        done = stop
    return whole


def _in_order(
    one: Callable[[int, int], int], count: int, work: Work, cancel: Cancellable | None
) -> Iterator[int]:
    """What `one` gives for each batch, in order; few wait to be taken, so that little is held."""
    workers = max(2, work.at_once)
    batches = ((start, min(start + work.batch, count)) for start in range(0, count, work.batch))
    pool = ThreadPoolExecutor(workers)
    waiting: deque[Future[int]] = deque()
    try:
        for start, stop in batches:
            check(cancel)
            waiting.append(pool.submit(one, start, stop))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
