"""How far a run is, in words."""

from __future__ import annotations

from slicer.i18n import tr as _

from CTEnhanceLib.process.worker import WorkerProgress


def stageText(stage: str) -> str:
    """Return the name of a stage for people."""
    names = {
        "prepare": _("Preparing"),
        "start": _("Starting"),
        "read": _("Reading"),
        "read headers": _("Reading"),
        "check": _("Checking the data"),
        "rebin": _("Sorting the helical scan into slices"),
        "project": _("Simulating the scan"),
        "reconstruct": _("Reconstructing"),
        "enhance": _("Enhancing"),
        "scatter": _("Computing scatter"),
        "decompose": _("Decomposing"),
        "low noise": _("Making low-noise images"),
        "remove rings": _("Removing rings"),
        "write": _("Writing"),
        "load": _("Loading the result"),
        "cancel": _("Cancelling"),
    }
    return names.get(stage, stage)


def progressText(progress: WorkerProgress) -> str:
    """Return stage, percentage and time left, as far as they are known."""
    text = stageText(progress.stage)
    if progress.percent > 0:
        text = _("{stage}: {percent:.0f} %").format(stage=text, percent=progress.percent)
    if progress.secondsLeft is not None:
        text = _("{progress}, {time} left").format(progress=text, time=durationText(progress.secondsLeft))
    return text


def durationText(seconds: float) -> str:
    """Return a time span in words that do not pretend to be exact."""
    if seconds < 90:
        return _("{count} s").format(count=max(1, round(seconds)))
    if seconds < 5400:
        return _("{count} min").format(count=round(seconds / 60))
    return _("{count:.1f} h").format(count=seconds / 3600)
