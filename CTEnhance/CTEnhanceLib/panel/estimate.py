"""What is said before Apply is pressed: what it will install, and how long it takes on this computer."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from CTEnhanceLib.process import dependencies
from CTEnhanceLib.process.run import Job
from CTEnhanceLib.process.steps import restTimer
from CTEnhanceLib.process.texts import durationText
from CTEnhanceLib.process.trial import Pace, Trial
from CTEnhanceLib.scene.plural import plural

# Nobody is kept waiting for it: only where nothing is done for a while.
_REST_MILLISECONDS = 1500
NO_TRIAL_SETTING = "CTEnhance/noTrial"
# It comes while the user works: its line is kept for it, so that no button moves then.
_EMPTY_LINE = "\u00a0"


class Estimate:
    """Connects the labels above Apply.

    requirements: what the worker needs; onTime(): the time is known now, or no longer.
    """

    def __init__(self, ui: Any, requirements: Path, onTime: Callable[[], None]) -> None:
        self.ui = ui
        self._requirements, self._onTime = requirements, onTime
        ui.timeLabel.text = _EMPTY_LINE
        self._job: Job | None = None
        self._paces: dict[Hashable, Pace | None] = {}
        self._trial = Trial(self._onPace)
        self._tried: Hashable = None
        # What is to be installed; asked anew after each run.
        self._install: str | None = None
        self._rest = restTimer(_REST_MILLISECONDS, self._try)

    def follow(self, job: Job | None) -> None:
        """Tell of what Apply would run now (None: nothing): say what is known, and find out the rest while
        nothing else is done."""
        self._job = job
        kind = None if job is None else job.likeness()
        self._say()
        if self._trial.running and kind != self._tried:
            self._stopTrial()
        if kind is not None and kind not in self._paces and kind != self._tried:
            self._rest.start()

    @property
    def known(self) -> bool:
        """Whether it is said how long it takes."""
        return bool(self.ui.timeLabel.text != _EMPTY_LINE)

    def stop(self) -> None:
        """End a trial: something else runs, or the panel is left."""
        self._stopTrial()
        self._job = self._install = None

    def _stopTrial(self) -> None:
        self._rest.stop()
        self._trial.stop()
        self._tried = None

    def _text(self) -> str:
        """Return how long it takes here, or an empty text while that is not known."""
        job = self._job
        pace = None if job is None else self._paces.get(job.likeness())
        if job is None or pace is None:
            return ""
        slices = job.slices() or pace.total
        if not slices:
            return ""
        one = _("About {time} on this computer (1 slice).")
        several = _("About {time} on this computer ({count} slices).")
        return plural(slices, one, several, time=durationText(pace.seconds(slices)))

    def _say(self) -> None:
        install = self._toInstall()
        self.ui.installLabel.text, self.ui.installLabel.visible = install, bool(install)
        self.ui.timeLabel.text = self._text() or _EMPTY_LINE
        self._onTime()

    def _toInstall(self) -> str:
        if self._install is None:
            self._install = installText(self._requirements)
        return self._install

    def _try(self) -> None:
        """Try two slices, where that can be done without asking for anything."""
        job = self._job
        kind = None if job is None else job.likeness()
        if job is None or kind is None or kind in self._paces or self._trial.running:
            return
        if slicer.app.userSettings().value(NO_TRIAL_SETTING) or self._toInstall():
            return
        self._tried = kind
        self._trial.start(job)

    def _onPace(self, pace: Pace | None) -> None:
        if self._tried is not None:
            self._paces[self._tried] = pace
        self._tried = None
        self._say()


def installText(requirements: Path) -> str:
    """Return what Apply will install first, and how large it is; empty: everything is there."""
    if dependencies.needsTorch(requirements) and not dependencies.torchInstalled():
        return _(
            "PyTorch is missing: Apply offers to install it (2 GB with a graphics card, 200 MB without)."
        )
    names = dependencies.missing(requirements)
    if not names:
        return ""
    return _(
        "Apply first installs into Slicer, if you agree: {names} (about {size} MB). Without a graphics card "
        "the processor computes."
    ).format(names=", ".join(dependencies.nameOf(each) for each in names), size=dependencies.megabytes(names))
