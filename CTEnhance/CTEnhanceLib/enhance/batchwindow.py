"""The window Batch of CT Enhance (`Resources/UI/BatchWindow.ui`): scans of a folder or of the database."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ctenhance.options import EnhanceOptions
from ctenhance.runtime.errors import CTEnhanceError
from CTEnhanceLib.enhance.batch import Batch, CaseState, caseOf
from CTEnhanceLib.enhance.opencase import OpenCaseJob, caseName
from CTEnhanceLib.out import patient
from CTEnhanceLib.panel import styles
from CTEnhanceLib.process import dependencies, transfer
from CTEnhanceLib.process.folders import chooseFolder
from CTEnhanceLib.process.run import Job
from CTEnhanceLib.process.steps import TimedSteps, raiseError
from CTEnhanceLib.process.texts import durationText

FOLDER, DATABASE = 0, 1
_WIDTH, _HEIGHT = 860, 520
_STATE_WIDTH, _TIME_WIDTH, _REMARK_WIDTH, _LEAST_NAME = 128, 64, 170, 126
# Where images are looked at the window makes room beside them, if there is so much (pixels).
_LEAST_WIDTH, _MARGIN = 300, 4
_PAGE = Path("ctenhance-batch") / "summary.html"


@dataclass(frozen=True)
class Settings:
    """What the panel is set to: the options, and what they are called for people."""

    options: EnhanceOptions
    text: str


class BatchWindow:
    """A window of its own: a batch goes on while it is closed, and while another module is open.

    settings() are the panel's; requirements: the file with the packages that the worker needs; run(makeJob,
    onDone) runs a job as Apply does, unless one runs() already; onOpened(result): the result of a case is in
    the scene; onRunning(text): what there is to say of the batch in the panel.
    """

    def __init__(
        self,
        interface: str,
        title: str,
        settings: Callable[[], Settings],
        requirements: Callable[[], Path],
        run: Callable[[Callable[[], Job | None], Callable[[Any], None]], None],
        runs: Callable[[], bool],
        onOpened: Callable[[Any], None],
        onRunning: Callable[[str], None],
    ) -> None:
        self._title, self._settings, self._requirements = title, settings, requirements
        self._runJob, self._runs, self._onOpened, self._onRunning = run, runs, onOpened, onRunning
        self.batch = Batch(self._onCase, self._onListed, self._onProgress, self._onEnded)
        # By the names of the cases: their rows, and what stands there.
        self._rows: dict[str, int] = {}
        self._written: dict[str, tuple[str, ...]] = {}
        self._filling: TimedSteps | None = None
        self._series: dict[str, patient.Series] = {}
        self._opened: dict[str, Any] = {}
        self._folder: Path | None = None
        self._steps: TimedSteps | None = None
        self.dialog = qt.QDialog(slicer.util.mainWindow())
        self.dialog.setWindowTitle(_("{panel}: batch").format(panel=title))
        whole = slicer.util.loadUI(interface)
        layout = qt.QVBoxLayout(self.dialog)
        layout.addWidget(whole)
        self.dialog.resize(_WIDTH, _HEIGHT)
        self.ui = ui = slicer.util.childWidgetVariables(whole)
        styles.prepareWidgets(vars(ui).values())
        ui.batchSourceSelector.addItem(_("A folder"))
        ui.batchSourceSelector.addItem(_("DICOM database"))
        ui.batchTable.setColumnCount(4)
        ui.batchTable.setHorizontalHeaderLabels([_("Case"), _("State"), _("Time"), _("Remark")])
        ui.batchTable.horizontalHeader().setStretchLastSection(True)
        ui.batchSourceSelector.connect("currentIndexChanged(int)", self._onSource)
        ui.batchSourceButton.connect("clicked()", self._onSourceFolder)
        ui.batchTargetButton.connect("clicked()", self._onTargetFolder)
        for edit in (ui.batchSourceEdit, ui.batchTargetEdit):
            edit.connect("textChanged(QString)", self._onText)
        ui.batchStartButton.connect("clicked()", self._onStart)
        ui.batchOpenButton.connect("clicked()", self._onOpen)
        ui.batchPageButton.connect("clicked()", self._onPage)
        ui.batchTable.connect("cellDoubleClicked(int,int)", self._onDoubleClick)
        self._enter = qt.QShortcut(qt.QKeySequence("Return"), ui.batchTable)
        self._enter.setContext(qt.Qt.WidgetShortcut)
        self._enter.connect("activated()", self._onOpen)
        ui.batchTable.connect("itemSelectionChanged()", self.refresh)
        ui.batchTable.connect("cellChanged(int,int)", self._onChecked)
        self.refresh()

    def show(self) -> None:
        """Bring the window to the front."""
        if self._fromDatabase and not self._busy:
            self._listDatabase()
        self.refresh()
        styles.prepareColors([self.dialog], vars(self.ui).values())
        self.dialog.show()
        self.dialog.raise_()

    def kill(self) -> None:
        """End what runs, for when the module goes."""
        self.batch.kill()
        if self._steps is not None:
            self._steps.cancel()
            self._steps = None
        self._stopFilling()
        self._removeFolder()
        self.dialog.hide()

    @property
    def _busy(self) -> bool:
        return self.batch.running or self._steps is not None

    @property
    def _fromDatabase(self) -> bool:
        return bool(self.ui.batchSourceSelector.currentIndex == DATABASE)

    def refresh(self) -> None:
        """Show what can be done now."""
        ui, busy = self.ui, self._busy
        folder = not self._fromDatabase
        ui.batchSourceEdit.visible = ui.batchSourceButton.visible = folder
        for widget in (ui.batchSourceSelector, ui.batchSourceEdit, ui.batchSourceButton):
            widget.enabled = not busy
        ui.batchTargetEdit.enabled = ui.batchTargetButton.enabled = not busy
        if not busy:
            ui.batchSettingsLabel.text = self._settings().text
        reason = "" if busy else self._reason()
        ui.batchStartButton.text = _("Cancel") if busy else _("Start")
        ui.batchStartButton.enabled = busy or not reason
        ui.batchStartButton.toolTip = (
            _("Stop; what is finished stays.") if busy else reason or _("Enhance all of them, one by one.")
        )
        chosen = self._chosen()
        ui.batchOpenButton.enabled = chosen is not None and chosen.finished
        ui.batchPageButton.enabled = not busy and (self.batch.target / _PAGE).is_file()

    def _reason(self) -> str:
        """Return the sentence that says why it cannot be started, or an empty one."""
        if self._fromDatabase:
            if patient.openDatabase() is None:
                return patient.noDatabase()
            if not self._checked():
                return _("Check the series that are to be enhanced.")
        elif not self._path(self.ui.batchSourceEdit):
            return _("Choose the folder with the scans.")
        return "" if self._path(self.ui.batchTargetEdit) else _("Choose the folder for the results.")

    @staticmethod
    def _path(edit: Any) -> str:
        return str(edit.text).strip().strip('"')

    # Starting and following ---------------------------------------------------------------------------

    def _onStart(self) -> None:
        if self._busy:
            self.batch.cancel()
            if self._steps is not None:
                self._steps.cancel()
                self._over(_("Cancelled; nothing was begun."), False)
            return
        try:
            if not dependencies.ensure(self._requirements(), self._title):
                self._say(_("Nothing was installed, so nothing was computed."))
                return
            if self._fromDatabase:
                self._gather(self._checked())
            else:
                self._start(Path(self._path(self.ui.batchSourceEdit)).expanduser())
        except CTEnhanceError as error:
            self._over(str(error), True)

    def _gather(self, chosen: list[str]) -> None:
        """Put the series of the database into one folder, each in its own, and start with that."""
        self._folder = transfer.runFolder()

        def steps() -> Iterator[float]:
            for number, name in enumerate(chosen):
                for part in patient.gather(self._series[name].files, self._folder / "scans" / name):
                    yield (number + part) / len(chosen)

        self._steps = TimedSteps(steps(), self._gathered, lambda error: self._over(str(error), True))
        self._say(_("Collecting the series…"))
        self.refresh()

    def _gathered(self) -> None:
        self._steps = None
        if self._folder is not None:
            try:
                self._start(self._folder / "scans")
            except CTEnhanceError as error:
                self._over(str(error), True)

    def _start(self, source: Path) -> None:
        if not self._fromDatabase:
            self._clear()
        self._opened = {}
        target = Path(self._path(self.ui.batchTargetEdit)).expanduser()
        self.batch.start(source, target, self._settings().options)
        self._onProgress(_("Starting…"), 0.0)
        self.refresh()

    def _onProgress(self, sentence: str, percent: float) -> None:
        self.ui.batchProgressBar.value = int(percent)
        self._say(sentence)
        self._onRunning(sentence)

    def _onCase(self, case: CaseState) -> None:
        self._addRows([case.name])
        self._write(case)

    def _onListed(self) -> None:
        """Show all cases that are known by now, in short turns: there may be thousands."""
        self._stopFilling()
        cases = list(self.batch.cases.values())
        self._addRows([case.name for case in cases])

        def steps() -> Iterator[float]:
            for number, case in enumerate(cases):
                self._write(case)
                yield number / len(cases)

        self._filling = TimedSteps(steps(), self._stopFilling, raiseError)

    def _stopFilling(self) -> None:
        if self._filling is not None:
            self._filling.cancel()
            self._filling = None

    def _onEnded(self, sentence: str, failed: bool) -> None:
        self._over(sentence, failed)
        if not failed:
            self.ui.batchProgressBar.value = 100
        slicer.util.showStatusMessage(_("{panel}: {sentence}").format(panel=self._title, sentence=sentence))

    def _over(self, sentence: str, failed: bool) -> None:
        self._steps = None
        self._removeFolder()
        self._say(sentence, styles.failure() if failed else "")
        self._onRunning("")
        self.refresh()

    def _say(self, text: str, style: str = "") -> None:
        self.ui.batchStatusLabel.styleSheet = style
        self.ui.batchStatusLabel.text = text

    def _removeFolder(self) -> None:
        if self._folder is not None:
            transfer.removeFolder(self._folder)
            self._folder = None

    # The table ----------------------------------------------------------------------------------------

    def _clear(self) -> None:
        self._stopFilling()
        self._rows, self._written = {}, {}
        self.ui.batchTable.setRowCount(0)

    def _addRows(self, names: Sequence[str]) -> None:
        """Have a row for each of these cases; it is empty until it is written."""
        new, first = [name for name in names if name not in self._rows], not self._rows
        if new:
            self._rows |= {name: row for row, name in enumerate(new, len(self._rows))}
            self.ui.batchTable.setRowCount(len(self._rows))
        if new and first:
            self._fitColumns(self.dialog.width)

    def _write(self, case: CaseState) -> None:
        """Write what is known of a case, as far as it does not stand there."""
        time = durationText(case.seconds) if case.seconds else ""
        texts, before = (case.text(), time, case.why), self._written.get(case.name)
        if texts == before:
            return
        table, row = self.ui.batchTable, self._rows[case.name]
        table.blockSignals(True)  # these are no changes of the user's
        if before is None:
            series = self._series.get(case.name) if self._fromDatabase else None
            if series is None:
                table.setItem(row, 0, qt.QTableWidgetItem(case.name))
            elif table.item(row, 0) is None:
                table.setItem(row, 0, _seriesItem(series))
        for column, (text, old) in enumerate(zip(texts, before or ("", "", ""), strict=True), start=1):
            if text != old or before is None:
                item = qt.QTableWidgetItem(text)
                item.setToolTip(text)
                table.setItem(row, column, item)
        table.blockSignals(False)
        self._written[case.name] = texts

    def _fitColumns(self, width: int) -> None:
        """Give the names of the cases what a window of this width (pixels) leaves them."""
        table = self.ui.batchTable
        for column, wide in ((1, _STATE_WIDTH), (2, _TIME_WIDTH)):
            table.setColumnWidth(column, wide)
        table.setColumnWidth(0, max(_LEAST_NAME, width - _STATE_WIDTH - _TIME_WIDTH - _REMARK_WIDTH))

    def _checked(self) -> list[str]:
        """Return the names of the series that are checked."""
        table = self.ui.batchTable
        return [
            name
            for name, row in self._rows.items()
            if name in self._series and table.item(row, 0).checkState() == qt.Qt.Checked
        ]

    def _chosen(self) -> CaseState | None:
        row = self.ui.batchTable.currentRow()
        name = next((name for name, own in self._rows.items() if own == row), None)
        return None if name is None else self.batch.cases.get(name)

    def _listDatabase(self) -> None:
        """List the CT series of the database, which takes a moment for many."""
        self._clear()
        self._series = {}
        if patient.openDatabase() is None:
            return

        def steps() -> Iterator[float]:
            for part, series in patient.ctSeries():
                if series is not None:
                    name = "ct-" + hashlib.sha256(series.uid.encode()).hexdigest()[:12]
                    self._series[name] = series
                    self._addRows([name])
                    self.ui.batchTable.setItem(self._rows[name], 0, _seriesItem(series))
                yield part

        self._steps = TimedSteps(steps(), self._listed, lambda error: self._over(str(error), True))
        self._say(_("Looking through the database…"))

    def _listed(self) -> None:
        found = _("{count} CT series.").format(count=len(self._series))
        self._over(found if self._series else _("There is no CT series in Slicer's database."), False)

    # What the user does -------------------------------------------------------------------------------

    def _onSource(self, _index: int) -> None:
        self._clear()
        if self._fromDatabase:
            self._listDatabase()
        self.refresh()

    def _onSourceFolder(self) -> None:
        self._ask(self.ui.batchSourceEdit, _("The folder with the scans"))

    def _onTargetFolder(self) -> None:
        self._ask(self.ui.batchTargetEdit, _("The folder for the results"))

    def _ask(self, edit: Any, title: str) -> None:
        folder = chooseFolder(self.dialog, title, self._path(edit))
        if folder:
            edit.text = folder

    def _onText(self, _text: str) -> None:
        self.refresh()

    def _onChecked(self, _row: int, column: int) -> None:
        if column == 0 and not self._busy:
            self.refresh()

    def _onDoubleClick(self, _row: int, _column: int) -> None:
        self._onOpen()

    def _onOpen(self) -> None:
        """Show the chosen case before and after."""
        state = self._chosen()
        if state is None or not state.finished:
            return
        shown = self._opened.get(state.name)
        if shown is not None and slicer.mrmlScene.IsNodePresent(shown):
            self._onOpened(shown)
            self._stepAside()
            return
        if self._runs():
            self._say(_("The panel is at work: wait until it is done, or cancel it there."))
            return
        case = caseOf(self.batch.target, state.name)
        if case is None:
            self._say(_("The record of the batch cannot be read: run it again."), styles.failure())
            return
        series = self._series.get(state.name) if self._fromDatabase else None
        if series is None:
            job = OpenCaseJob(case, caseName(state.name))
        else:
            study = patient.Study(files=series.files, series=series.uid)
            job = OpenCaseJob(case, series.text, study, patient.instancesOf(series.uid))

        def arrived(result: Any) -> None:
            self._opened[state.name] = result
            self._onOpened(result)
            self._stepAside()

        self._runJob(lambda: job, arrived)

    def _stepAside(self) -> None:
        """Leave the images free, where the window lies over them, and the keys to them."""
        main = slicer.util.mainWindow()
        images = None if main is None else main.centralWidget()
        if images is None:
            return
        corner, own = images.mapToGlobal(qt.QPoint(0, 0)), self.dialog.frameGeometry
        free = corner.x() - main.x
        if own.right() > corner.x() and free >= _LEAST_WIDTH:
            height = min(own.height(), images.height // 2)
            self.dialog.resize(free - 2 * _MARGIN, height)
            self.dialog.move(main.x + _MARGIN, corner.y() + images.height - height)
            self._fitColumns(free - 2 * _MARGIN)
        main.activateWindow()

    def _onPage(self) -> None:
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(self.batch.target / _PAGE)))


def _seriesItem(series: patient.Series) -> Any:
    """Return the first cell of a series of the database, which can be checked."""
    item = qt.QTableWidgetItem(series.text)
    item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable | qt.Qt.ItemIsUserCheckable)
    item.setCheckState(qt.Qt.Unchecked if series.derived else qt.Qt.Checked)
    return item
