"""A panel's section Export (`Resources/UI/OutSection.ui`): the result as DICOM, picture, film and page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from ctenhance.runtime.errors import CTEnhanceError
from CTEnhanceLib.compare.comparison import Comparison
from CTEnhanceLib.out import film, patient, pictures
from CTEnhanceLib.out.dicom import ResultJob, SeriesJob
from CTEnhanceLib.out.page import PageJob
from CTEnhanceLib.process.folders import chooseFolder
from CTEnhanceLib.process.run import Job
from CTEnhanceLib.scene import placing
from CTEnhanceLib.views import scrolling
from CTEnhanceLib.views.keys import Keys


class OutSection:
    """Connects the section's widgets; `setResult` says which result they are about.

    run(makeJob, onDone) runs a job as Apply does; patientOf(result) is the node of the patient's own image,
    whose study an exported series joins, or None; show() brings images onto the screen; comparison is what
    flickers and fills the page, None: neither is offered; series(result, folder, study) is what is exported.
    """

    def __init__(
        self,
        ui: Any,
        run: Callable[[Callable[[], Job | None], Callable[[Any], None]], None],
        patientOf: Callable[[Any], Any],
        show: Callable[[], None],
        comparison: Comparison | None = None,
        series: Callable[[Any, Path | None, patient.Study | None], SeriesJob] = ResultJob,
    ) -> None:
        self.ui = ui
        self._comparison, self._run, self._patientOf = comparison, run, patientOf
        self._show, self._series = show, series
        self._running = self._exporting = False
        self._result: Any = None
        ui.outStudyButton.connect("clicked()", self._onStudy)
        ui.outExportButton.connect("clicked()", self._onExport)
        ui.outDatabaseButton.connect("clicked()", self._onDatabase)
        ui.outPictureButton.connect("clicked()", self._onPicture)
        ui.outFlickerButton.connect("clicked()", self._onFlicker)
        ui.outScrollButton.connect("clicked()", self._onScroll)
        ui.outPageButton.connect("clicked()", self._onPage)
        known = {
            "Ctrl+Shift+D": (_("Export into the DICOM database"), ui.outDatabaseButton),
            "Ctrl+Shift+I": (_("Save a picture"), ui.outPictureButton),
            "Ctrl+Shift+P": (_("Write the page on the comparison"), ui.outPageButton),
        }
        offered = {key: each for key, each in known.items() if comparison or each[1] is not ui.outPageButton}
        self._keys = Keys(
            ui.outPictureButton, {key: (text, button.click) for key, (text, button) in offered.items()}
        )
        for widget in (ui.outFlickerButton, ui.outPageLabel, ui.outPageButton):
            widget.visible = comparison is not None
        self.refresh()

    def enter(self) -> None:
        """The panel is opened: its keys do what the buttons do, as far as these can be pressed."""
        self._keys.enable(True)

    def exit(self) -> None:
        """The panel is left: its keys are free again."""
        self._keys.enable(False)

    def keys(self) -> list[tuple[str, str]]:
        """Return the section's keys and what they do."""
        return self._keys.rows()

    def setResult(self, result: Any) -> None:
        """Offer this result; None: nothing."""
        result = result if result is not None and placing.reportOf(result) is not None else None
        if result is not self._result:
            self._say("")
            former = self._result
            if (
                former is not None
                and result is not None
                and self._patientOf(former) is not self._patientOf(result)
            ):
                self.ui.outStudyEdit.text = ""  # that of another patient, perhaps
        self._result = result
        self.refresh(self._running)

    def refresh(self, running: bool = False) -> None:
        """Show what can be done now; nothing while something is `running`."""
        self._running = running
        if self._exporting and not running:  # it has failed, or was cancelled
            self._exporting = False
            self._say("")
        ui, ready = self.ui, self._result is not None and not running
        compared = ready and (self._comparison is None or placing.inputOf(self._result) is not None)
        for widget in (ui.outStudyEdit, ui.outStudyButton, ui.outExportButton, ui.outDatabaseButton):
            widget.enabled = ready
        for button in (ui.outPictureButton, ui.outScrollButton, ui.outFlickerButton, ui.outPageButton):
            button.enabled = compared
        own = patient.studyOf(self._patientOf(self._result)) if ready else None
        ui.outStudyEdit.placeholderText = (
            _("That of the input, from Slicer's database")
            if own is not None
            else _("A new one, or a folder of the patient's images")
        )

    def _begin(self, job: Job, done: Callable[[], None]) -> None:
        """Run an export, and say so here: what Run says of it may be out of sight."""

        def arrived(_result: Any) -> None:
            self._exporting = False
            done()

        self._say("")
        self._run(lambda: job, arrived)
        if self._running:
            self._exporting = True
            self._say(_("Exporting… (Apply, above, is Cancel meanwhile.)"))

    def _say(self, text: str) -> None:
        self.ui.outNoteLabel.text = text
        self.ui.outNoteLabel.visible = bool(text)
        if text:
            # Its keys work wherever the panel is scrolled to; its label has its place at the next turn.
            qt.QTimer.singleShot(0, lambda: scrolling.bringUp(self.ui.outNoteLabel))

    def _study(self) -> patient.Study | None:
        typed = patient.Study.typed(self.ui.outStudyEdit.text)
        return typed or patient.studyOf(self._patientOf(self._result))

    def _onStudy(self) -> None:
        folder = chooseFolder(
            self.ui.outStudyButton, _("DICOM images of the patient, whose study the series joins")
        )
        if folder:
            self.ui.outStudyEdit.text = folder

    def _onExport(self) -> None:
        folder = chooseFolder(self.ui.outExportButton, _("An empty folder for the DICOM files"))
        if folder:
            self._export(Path(folder))

    def _onDatabase(self) -> None:
        self._export(None)

    def _export(self, folder: Path | None) -> None:
        job = self._series(self._result, folder, self._study())
        self._begin(job, lambda: self._say(job.written()))

    def _onPicture(self) -> None:
        path = self._asked(_("Picture"), ".png")
        if path is not None:
            self._showing()
            try:
                pictures.save(path)
            except CTEnhanceError as error:
                self._say(str(error))
            else:
                self._say(_("Written to {path}.").format(path=path))

    def _onFlicker(self) -> None:
        path = self._asked(_("Film"), ".gif") if self._comparison is not None else None
        if path is None or self._comparison is None:
            return
        if not self._comparison.active:
            self._show()
        show = self._comparison.setFlicker
        moves = [lambda: show(True), lambda: show(False)]
        flicker = bool(self.ui.flickerButton.checked)
        self._film(path, moves, lambda: show(flicker), film.FLICKER_SECONDS)

    def _onScroll(self) -> None:
        path = self._asked(_("Film"), ".gif")
        if path is not None:
            self._showing()
            moves, back = film.scrolling()
            self._film(path, moves, back, film.SCROLL_SECONDS)

    def _film(
        self, path: Path, moves: list[Callable[[], None]], back: Callable[[], None], seconds: float
    ) -> None:
        job = film.FilmJob(self._result, path, moves, back, seconds)
        self._begin(job, lambda: self._say(_("Written to {path}.").format(path=path)))

    def _onPage(self) -> None:
        path = self._asked(_("Page"), ".html")
        if path is not None:
            job = PageJob(self._result, self._other(), path)
            self._begin(job, lambda: self._pageIsThere(path))

    def _other(self) -> Any:
        """Return what the result is compared with on the screen, else its input."""
        pair = None if self._comparison is None else self._comparison.pair
        return (
            placing.inputOf(self._result) if pair is None or pair.result is not self._result else pair.other
        )

    def _pageIsThere(self, path: Path) -> None:
        self._say(_("Written to {path}.").format(path=path))
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(path)))

    def _asked(self, title: str, suffix: str) -> Path | None:
        """Return the file that the user names, with its ending; None: he would rather not."""
        path = qt.QFileDialog.getSaveFileName(
            self.ui.outPictureButton, title, f"comparison{suffix}", f"{title} (*{suffix})"
        )
        if not path:
            return None
        return Path(path if path.lower().endswith(suffix) else f"{path}{suffix}")

    def _showing(self) -> None:
        """Have something on the screen."""
        if not pictures.shownWidgets():
            self._show()
