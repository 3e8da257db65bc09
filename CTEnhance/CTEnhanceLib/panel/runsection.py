"""A panel's sections Run and Details (`Resources/UI/RunSection.ui`, `DetailsSection.ui`).

Device list with its warning, Apply that becomes Cancel, progress bar with stage, percentage and time left,
the status line, and the report or the log of what went wrong.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from ctenhance.runtime.errors import CTEnhanceError
from CTEnhanceLib.panel import styles
from CTEnhanceLib.panel.estimate import Estimate
from CTEnhanceLib.panel.modelchoice import select
from CTEnhanceLib.panel.reporttable import reportJson, reportTable
from CTEnhanceLib.process import dependencies
from CTEnhanceLib.process.devices import Device, DeviceQuery, onProcessor
from CTEnhanceLib.process.run import Job, Run
from CTEnhanceLib.process.steps import APART_MILLISECONDS, TimedSteps, inTurns
from CTEnhanceLib.process.texts import durationText, progressText
from CTEnhanceLib.scene import placing
from CTEnhanceLib.views.keys import Keys

AUTOMATIC = "auto"
# What is done with what a run has placed: at once, or in short steps.
After = Callable[[Any], Iterator[float] | None]
APPLY_KEY = "Ctrl+Return"


class RunSection:
    """Connects the sections' widgets.

    makeJob() -> Job, or None to leave it, called on Apply; trialJob(): the same, timed; onResult(result),
    after a run; onDevice(spec), when the user chooses one; onChanged(), when a run begins or ends: call
    `refresh` then; isOpen(): whether the user sees the panel; engines: whether networks run, so that the
    device list names what runs them.
    """

    def __init__(
        self,
        ui: Any,
        title: str,
        requirements: Path,
        makeJob: Callable[[], Job | None],
        trialJob: Callable[[], Job | None],
        onResult: After,
        onDevice: Callable[[str], None],
        onChanged: Callable[[], None],
        isOpen: Callable[[], bool],
        engines: bool = False,
    ) -> None:
        self.ui = ui
        self._title, self._requirements = title, requirements
        self._makeJob, self._onResult, self._onChanged = makeJob, onResult, onChanged
        self._trialJob = trialJob
        self.estimate = Estimate(ui, requirements, self._onTime)
        self._afterRun = onResult
        self._onDevice, self._isOpen = onDevice, isOpen
        self._run: Run | None = None
        self._showing: TimedSteps | None = None
        self._started = 0.0
        self._reason = ""
        self._device = AUTOMATIC
        self._slow = True
        # Not while it is known how long it took.
        self._warnsOfTime = True
        self._devices: list[Device] = []
        self._following = False
        self._report: dict[str, Any] | None = None
        self._query = DeviceQuery(self._onDevices, engines)
        # It comes while the user works: its place is kept for it, so that no button moves then.
        policy = ui.progressBar.sizePolicy
        policy.setRetainSizeWhenHidden(True)
        ui.progressBar.sizePolicy = policy
        ui.deviceSelector.addItem(_("Automatic"), AUTOMATIC)
        ui.deviceSelector.connect("currentIndexChanged(int)", self._onDeviceIndex)
        ui.deviceRefreshButton.connect("clicked()", self.askDevices)
        ui.applyButton.connect("clicked(bool)", self._onApply)
        press = (_("Apply; while it works, cancel"), ui.applyButton.click)
        self._keys = Keys(ui.applyButton, {APPLY_KEY: press})
        ui.jsonBox.connect("toggled(bool)", self._writeReport)
        self._writeReport()

    @property
    def running(self) -> bool:
        """Whether a run is on its way."""
        return self._run is not None

    def cancel(self) -> None:
        """Stop what runs; the status line tells when it is over."""
        self.estimate.stop()
        if self._run is not None:
            # The button stays enabled: a disabled one hands the focus on, and the panel scrolls to that.
            self._run.cancel()

    def kill(self) -> None:
        """End what runs at once, for when the module goes."""
        self.exit()
        if self._run is not None:
            self._run.kill()
            self._run = None
        if self._showing is not None:
            self._showing.cancel()
            self._showing = None
        self._query.stop()

    def exit(self) -> None:
        """The panel is left: its key is free again, and nothing is tried. A run goes on."""
        self._keys.enable(False)
        self.estimate.stop()

    def keys(self) -> list[tuple[str, str]]:
        """Return the section's key and what it does."""
        return self._keys.rows()

    def askDevices(self) -> None:
        """Look which devices there are, and how much memory is free; the list follows when it is known."""
        self._query.start()

    def refresh(self, reason: str, doing: str, device: str, slow: bool = True) -> None:
        """Show whether Apply can be pressed.

        reason - why not; empty: it can. doing - what Apply does. device - the parameter node's.
        slow - whether it takes minutes without a graphics card.
        """
        ui, running = self.ui, self.running
        ui.applyButton.text = _("Cancel") if running else _("Apply")
        ui.applyButton.enabled = running or not reason
        ui.applyButton.toolTip = _("Stop; nothing will be changed.") if running else reason or doing
        ui.progressBar.visible = running
        if not running:
            ui.statusLabel.minimumHeight = 0
        ui.deviceSelector.enabled = ui.deviceRefreshButton.enabled = not running
        if not running and reason != self._reason:
            # Said once; what a run said last stays to be read until something else is wrong, or mended.
            self.showStatus(reason)
        self._reason, self._device, self._slow = reason, device, slow
        self._followDevice()
        self._keys.enable(self._isOpen())
        if running:
            self.estimate.stop()
        else:
            self.estimate.follow(None if reason else self._trialJob())

    def disable(self) -> None:
        """There are no parameters to run with at the moment."""
        if not self.running:
            self.ui.applyButton.enabled = False

    def showStatus(self, text: str, style: str = "") -> None:
        """Write the status line."""
        self.ui.statusLabel.styleSheet = style
        self.ui.statusLabel.text = text

    def showReport(self, result: Any) -> None:
        """Write the report of a result (None: nothing) under Details."""
        self._report = placing.reportOf(result)
        self._writeReport()

    def showFailure(self, sentence: str, details: str = "") -> None:
        """Tell of a failure in the status line, under Details and in a message box."""
        self.showStatus(sentence, styles.failure())
        self._report = None
        self._writeReport()
        self.ui.detailsText.setPlainText(details)
        slicer.util.errorDisplay(
            sentence, windowTitle=self._title, **({"detailedText": details} if details else {})
        )

    def start(self, makeJob: Callable[[], Job | None], onResult: After) -> None:
        """Run a job, Apply's or another; meanwhile Apply is Cancel. `onResult` gets what it has placed."""
        if self.running:
            return
        try:
            if not dependencies.ensure(self._requirements, self._title):
                self.showStatus(_("Nothing was installed, so nothing was computed."))
                return
            job = makeJob()
            if job is None:
                return
            self._afterRun, self._warnsOfTime = onResult, True
            run = Run(job, self._onProgress, self._onDone, self._onFailed, self._onCancelled)
            self._run, self._started = run, time.monotonic()
            self.ui.statusLabel.minimumHeight = self.ui.statusLabel.height  # "Starting" may be a shorter text
            run.start()
        except CTEnhanceError as error:
            self._onFailed(str(error), "")
            return
        self._onChanged()

    def _onTime(self) -> None:
        """Where it is said how long it takes no warning is needed."""
        self._warnsOfTime = self._warnsOfTime and not self.estimate.known
        self._warn()

    def _writeReport(self, _asJson: bool = False) -> None:
        report, ui = self._report, self.ui
        ui.jsonBox.enabled = report is not None
        if report is None or ui.jsonBox.checked:
            ui.detailsText.setPlainText("" if report is None else reportJson(report))
        else:
            ui.detailsText.setHtml(reportTable(report))

    def _onApply(self, _checked: bool = False) -> None:
        if self._run is not None:
            self.cancel()
        else:
            self.start(self._makeJob, self._onResult)

    def _onProgress(self, progress: Any) -> None:
        self.ui.progressBar.value = int(progress.percent)
        self.showStatus(progressText(progress))

    def _onDone(self, result: Any, warnings: list[str]) -> None:
        """Show it, one thing a turn; until then it runs."""
        self._warnsOfTime = False

        def steps() -> Iterator[float]:
            yield from self._afterRun(result) or ()
            yield 0.0
            self.showReport(result)
            yield 1.0

        over = functools.partial(self._over, result, warnings)
        self._showing = TimedSteps(
            steps(), over, self._notShown, seconds=0.0, milliseconds=APART_MILLISECONDS
        )

    def _notShown(self, error: Exception) -> None:
        self._run = self._showing = None
        self._onChanged()
        raise error

    def _over(self, result: Any, warnings: list[str]) -> None:
        self._run = self._showing = None
        self._onChanged()
        took = durationText(time.monotonic() - self._started)
        report = placing.reportOf(result) or {}
        device = report.get("device")
        # Of a scan that was simulated just now nothing is left to be checked by the reader.
        notes = [] if "preceding" in report else report.get("notes", [])
        text = _("Done in {time}.") if device is None else _("Done in {time} on {device}.")
        said = " ".join([text.format(time=took, device=device), *warnings, *notes])
        self.showStatus(said, styles.warning() if warnings else "")
        inTurns([self.askDevices])
        if not self._isOpen():
            slicer.util.showStatusMessage(_("{panel}: {sentence}").format(panel=self._title, sentence=said))

    def _onFailed(self, sentence: str, details: str) -> None:
        self._run = None
        self._onChanged()
        self.showFailure(sentence, details)

    def _onCancelled(self) -> None:
        self._run = None
        self._onChanged()
        self.showStatus(_("Cancelled; nothing was changed."))

    def _onDeviceIndex(self, index: int) -> None:
        if index >= 0 and not self._following:
            self._warnsOfTime = True
            self._onDevice(self.ui.deviceSelector.itemData(index))

    def _onDevices(self, devices: list[Device]) -> None:
        self._devices = devices
        selector = self.ui.deviceSelector
        self._following = True
        try:
            selector.clear()
            selector.addItem(_("Automatic"), AUTOMATIC)
            for device in devices:
                selector.addItem(device.text, device.spec)
        finally:
            self._following = False
        self._followDevice()

    def _followDevice(self) -> None:
        self._following = True
        try:
            select(self.ui.deviceSelector, self._device)
        finally:
            self._following = False
        self._warn()

    def _warn(self) -> None:
        """Warn of a slow device, in the same line as the time: neither moves what is below."""
        slow = onProcessor(self._device) or (
            self._device == AUTOMATIC and all(device.isCPU for device in self._devices)
        )
        label = self.ui.deviceWarningLabel
        label.styleSheet = styles.warning()
        label.text = _("No graphics card is used: a whole scan takes minutes.")
        warns = slow and bool(self._devices) and self._warnsOfTime and self._slow and not self.estimate.known
        label.visible, self.ui.timeLabel.visible = warns, not warns
