"""What is said before the first Apply: a sample to try, what will be installed, how long it takes here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from CTEnhanceLib.enhance.job import VERB
from CTEnhanceLib.process import dependencies
from CTEnhanceLib.process.texts import durationText
from CTEnhanceLib.process.trial import Pace, Trial
from CTEnhanceLib.scene import placing

# Nobody is kept waiting for it: only where nothing is done for a while.
_REST_MILLISECONDS = 1500
NO_TRIAL_SETTING = "CTEnhance/noTrial"

Key = tuple[str, str, tuple[int, int]]


class FirstUse:
    """Connects the panel's labels and its sample's button.

    options(): the command line's, of the full effect; requirements(): what the worker needs; ready(): whether
    Apply could be pressed now; onSample(node): the sample is in the scene; onKnown(): the time is known.
    """

    def __init__(
        self,
        ui: Any,
        sample: Path,
        options: Callable[[], list[str]],
        requirements: Callable[[], Path],
        ready: Callable[[], bool],
        onSample: Callable[[Any], None],
        onKnown: Callable[[], None],
    ) -> None:
        self.ui = ui
        self._sample, self._options, self._requirements = sample, options, requirements
        self._ready, self._onSample, self._onKnown = ready, onSample, onKnown
        self._paces: dict[Key, Pace | None] = {}
        self._trial = Trial(self._onPace)
        self._tried: Key | None = None
        self._node: Any = None
        self._model, self._device, self._does = "", "", ""
        # What is to be installed; asked anew after each run.
        self._install: str | None = None
        self._rest = qt.QTimer(slicer.app)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_REST_MILLISECONDS)
        self._rest.connect("timeout()", self._try)
        ui.sampleButton.connect("clicked()", self._onSampleClicked)

    def follow(self, node: Any, model: str, does: str, device: str) -> None:
        """Tell of this input (None: none), model (and what it does) and device."""
        self._node = node if node is not None and node.GetImageData() is not None else None
        self._model, self._device, self._does = model, device, does
        self.ui.sampleButton.visible = self.ui.sampleLabel.visible = node is None and not placing.originals()
        self._say()
        key = self._key()
        if key is not None and key not in self._paces and key != self._tried:
            self._rest.start()

    def stop(self) -> None:
        """End a trial: something else runs, or the panel is left."""
        self._rest.stop()
        self._trial.stop()
        self._tried = self._install = None

    def estimate(self) -> str:
        """Return how long the input takes here, or an empty text while that is not known."""
        pace = self._paces.get(self._key() or ("", "", (0, 0)))
        if pace is None or self._node is None:
            return ""
        slices = self._node.GetImageData().GetDimensions()[2]
        return _("About {time} here for this CT ({count} slices).").format(
            time=durationText(pace.seconds(slices)), count=slices
        )

    def _key(self) -> Key | None:
        if self._node is None:
            return None
        columns, rows, _slices = self._node.GetImageData().GetDimensions()
        return self._model, self._device, (rows, columns)

    def _say(self) -> None:
        install = self._toInstall()
        self.ui.installLabel.text = install
        self.ui.installLabel.visible = bool(install)
        self.ui.modelNoteLabel.text = " ".join(filter(None, (self._does, self.estimate())))
        self.ui.modelNoteLabel.visible = bool(self.ui.modelNoteLabel.text)

    def _toInstall(self) -> str:
        if self._install is None:
            self._install = installText(self._requirements())
        return self._install

    def _try(self) -> None:
        """Try two slices, where that can be done without asking for anything."""
        key = self._key()
        if key is None or key in self._paces or self._trial.running or not self._ready():
            return
        if slicer.app.userSettings().value(NO_TRIAL_SETTING) or self._toInstall():
            return
        self._tried = key
        options = self._options()
        self._trial.start(self._node, lambda source, target: [VERB, str(source), str(target), *options], VERB)

    def _onPace(self, pace: Pace | None) -> None:
        if self._tried is not None:
            self._paces[self._tried] = pace
        self._tried = None
        self._say()
        if pace is not None:
            self._onKnown()

    def _onSampleClicked(self) -> None:
        node = slicer.util.loadVolume(str(self._sample))
        if node is not None:
            self._onSample(node)


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
