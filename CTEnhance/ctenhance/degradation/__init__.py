"""From photon-counting quality to routine quality: SUMI's forward model, published or realistic.

    result = ctenhance.degrade(volume, preset="routine", dose=0.25, seed=1)
    ctenhance.write(result.volumes["degraded"], "routine.nii.gz")
    again = ctenhance.degrade(volume, replay=result.report)

`Chain.preset(...).draw(volume, seed).apply(volume)` is the same without the report.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ctenhance.choices import DEFAULT_PRESET, PRESETS
from ctenhance.core.report import ReportBuilder, Result
from ctenhance.core.volume import CTVolume
from ctenhance.degradation.chain import REPORT_KEY, Chain, DrawnChain
from ctenhance.degradation.dose import noise_fields
from ctenhance.options import REPLAYED, DegradeOptions, chosen
from ctenhance.runtime.device import pick_device, with_memory_fallback
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.progress import Cancellable, Progress

__all__ = ["PRESETS", "Chain", "DrawnChain", "degrade", "noise_fields"]


def degrade(
    volume: CTVolume,
    *,
    preset: str = DEFAULT_PRESET,
    dose: float | None = None,
    photons: float | None = None,
    clip: tuple[float, float] | None = None,
    replay: Mapping[str, Any] | None = None,
    device: str = "auto",
    seed: int = 0,
    options: DegradeOptions | None = None,
    progress: Progress | None = None,
    cancel: Cancellable | None = None,
) -> Result:
    """Degrade a volume; `result.volumes["degraded"]` has the same grid, float32 HU.

    What is done to slices is done to axial ones (`CTVolume.axial`), however the volume is stored.
    `preset`: one of `choices.PRESETS`.  `dose`, `photons`, `clip`: see `Chain.preset`.  `replay`: the report
    of an earlier run (or of `DrawnChain.to_report`), whose drawn steps are applied again instead of drawing
    new ones; the seed is then the report's, and preset, dose, photons and clip are to be left out.
    `options`: all of these in one object, in place of the keywords.  The new report's `details.degradation`
    holds every drawn number.  Raises InputError for settings and reports that cannot be used and for pixels
    that are not square, Cancelled when asked to stop.
    """
    options = chosen(
        options,
        DegradeOptions(
            preset=preset,
            dose=dose,
            photons=photons,
            clip=clip,
            replay=replay,
            device=device,
            seed=seed,
        ),
    )
    volume.require_hu()
    selected = pick_device(options.device)
    report = ReportBuilder("degrade", device=selected, seed=options.seed)
    report.input = volume.input_report()
    axial = volume.axial()
    upright = axial.upright()
    # what is drawn at random must not depend on how rows, columns and slices are stored
    scan = CTVolume(axial.array[upright], axial.spacing, meta=axial.meta)
    with report.stage("draw"):
        chain = _replayed(options) or Chain.of(options).draw(scan, options.seed)
    report.seed = chain.seed
    report.settings = {**options.settings(), "preset": chain.name}
    report.details[REPORT_KEY] = chain.to_report()
    with report.stage("apply"):
        degraded = with_memory_fallback(
            lambda where, _: chain.apply(scan, where, progress, cancel), [1], selected, report.warn
        )
    degraded = volume.with_array(volume.from_axial(degraded.array[upright]))
    return Result({"degraded": degraded}, {}, report.finish())


def _replayed(options: DegradeOptions) -> DrawnChain | None:
    """The chain of the report that is to be replayed, if there is one."""
    if options.replay is None:
        return None
    chain = DrawnChain.from_report(options.replay)
    if options.preset not in (DEFAULT_PRESET, chain.name):
        raise InputError(REPLAYED)
    return chain
