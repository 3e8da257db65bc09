"""From photon-counting quality to routine quality: SUMI's forward model, published or realistic.

    result = ctenhance.degrade(volume, "routine", dose=0.25, seed=1)
    result.volumes["degraded"].write("routine.nii.gz")
    again = ctenhance.degrade(volume, replay=result.report)

`Chain.preset(...).draw(volume, seed).apply(volume)` is the same without the report.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ctenhance.core.report import ReportBuilder, Result
from ctenhance.core.volume import CTVolume
from ctenhance.degradation.chain import REPORT_KEY, Chain, DrawnChain
from ctenhance.degradation.dose import noise_fields
from ctenhance.degradation.presets import PRESETS
from ctenhance.runtime.device import pick_device, with_memory_fallback
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.progress import Cancellable, Progress

__all__ = ["PRESETS", "Chain", "DrawnChain", "degrade", "noise_fields"]


def degrade(
    volume: CTVolume,
    preset: str = "routine",
    dose: float | None = None,
    seed: int = 0,
    device: str = "auto",
    replay: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    cancel: Cancellable | None = None,
    *,
    photons: float | None = None,
    clip: tuple[float, float] | None = None,
) -> Result:
    """Degrade a volume; `result.volumes["degraded"]` has the same grid, float32 HU.

    What is done to slices is done to axial ones (`CTVolume.axial`), however the volume is stored.
    `preset`: one of `PRESETS`.  `dose`, `photons`, `clip`: see `Chain.preset`.  `replay`: the report of an
    earlier run (or of `DrawnChain.to_report`), whose drawn steps are applied again instead of drawing new
    ones; the seed is then the report's, and preset, dose, photons and clip are to be left out.  The new
    report's `details.degradation` holds every drawn number.  Raises InputError for settings and reports that
    cannot be used and for pixels that are not square, Cancelled when asked to stop.
    """
    volume.require_hu()
    place = pick_device(device)
    report = ReportBuilder("degrade", device=place, seed=seed)
    report.input = volume.input_report()
    axial = volume.axial()
    with report.stage("draw"):
        if replay is not None:
            chain = DrawnChain.from_report(replay)
            if (dose, photons, clip) != (None, None, None) or preset not in ("routine", chain.name):
                raise InputError(
                    "A replay takes preset, dose, photons and HU range from its report: leave them out, or "
                    "leave the replay out."
                )
        else:
            chain = Chain.preset(preset, dose=dose, photons=photons, clip=clip).draw(axial, seed)
    report.seed = chain.seed
    report.settings = {
        "preset": chain.name,
        "dose": dose,
        "photons": photons,
        "clip": clip,
        "replay": replay is not None,
    }
    report.details[REPORT_KEY] = chain.to_report()
    with report.stage("apply"):
        degraded = with_memory_fallback(
            lambda where, _: chain.apply(axial, where, progress, cancel), [1], place, report.warn
        )
    if axial is not volume:
        degraded = volume.with_array(volume.from_axial(degraded.array))
    return Result({"degraded": degraded}, {}, report.finish())
