"""CT Reader Study: blinded grading of CT images, side by side or one at a time, by keyboard.

A study is made and analysed with `ctenhance study` (docs/reader-study.md); this is where its readers read.
The order, the sides, the records and the rules are `ctenhance.study`'s; nothing is kept in the scene.
"""

from pathlib import Path

import ctk
import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
)

from ctenhance.runtime.errors import CTEnhanceError
from ctenhance.study import ReadingSession, Study
from CTEnhanceLib.panel import about, styles
from CTEnhanceLib.panel.ahead import Ahead
from CTEnhanceLib.panel.base import BasePanelWidget
from CTEnhanceLib.panel.keysheet import KeySheet
from CTEnhanceLib.readerstudy import keys, views
from CTEnhanceLib.readerstudy.desk import ReadingDesk
from CTEnhanceLib.views import layouts

FOLDER_SETTING = "CTReaderStudy/folder"


class CTReaderStudy(ScriptedLoadableModule):
    """The module as Slicer lists it."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        text = _(
            "Blinded reading of CT images, side by side or one at a time: grades, preferences, forced "
            "choices and lesion marks, each saved as it is given. Choose the study's folder, sign in, and "
            "read by keyboard alone."
        )
        category = translate("qSlicerAbstractCoreModule", "Quantification")
        about.describe(self.parent, _("CT Reader Study"), text, "panel-ct-reader-study.md", [category])
        layouts.atStartup(views.layouts)


class CTReaderStudyLogic(ScriptedLoadableModuleLogic):
    """Reading without the panel."""

    def study(self, folder: str | Path) -> Study:
        """Return the study in the folder; raises InputError when there is none or it was changed."""
        return Study.read(folder)

    def signIn(self, folder: str | Path, reader: str) -> ReadingSession:
        """Return the reader's sitting, to be closed in the end; raises InputError (see `ReadingSession`)."""
        return ReadingSession.open(folder, reader)


class CTReaderStudyWidget(BasePanelWidget):
    """The panel. It has no parameter node: a scene must neither keep a reading nor end it."""

    logicType = CTReaderStudyLogic

    def connectWidgets(self):
        """Make the reader's desk, and offer the study read last."""
        self.layout.addStretch(1)
        self.desk = ReadingDesk(self.ui, self.panel)
        self._keySheet = KeySheet(self.panel, _("CT Reader Study"), keys.rows)
        self.ahead = Ahead(views.allViews, (), ())
        self.ui.folderEdit.filters = ctk.ctkPathLineEdit.Dirs
        self.ui.folderEdit.connect("currentPathChanged(QString)", self.onFolder)
        self.ui.readerSelector.connect("currentIndexChanged(int)", self.onReader)
        self.ui.signInButton.connect("clicked()", self.onSignIn)
        settings = slicer.app.userSettings()
        self.ui.folderEdit.currentPath = settings.value(FOLDER_SETTING) or ""
        self.onFolder()

    def opened(self):
        """Show the case that is being read, if any."""
        super().opened()
        self.desk.enter()
        self._keySheet.enable(True)
        self.ahead.start()

    def left(self):
        """Take everything off the screen; the sitting goes on."""
        self.ahead.stop()
        self.desk.exit()
        self._keySheet.enable(False)

    def sceneGoes(self):
        """Save what was typed; `opened` shows the case again."""
        self.ahead.stop()
        self.desk.sceneCloses()

    def gone(self):
        """End the sitting; everything is saved."""
        self.ahead.stop()
        self.desk.signOut()
        self._keySheet.enable(False)

    def onFolder(self, _path=""):
        """Offer the readers of the study in the folder; none of them is chosen, lest one reads as another."""
        selector, folder = self.ui.readerSelector, self.ui.folderEdit.currentPath
        selector.clear()
        selector.addItem(_("Choose your name"))
        problem = ""
        if folder:
            try:
                for reader in self.logic.study(folder).readers:
                    selector.addItem(reader)
            except CTEnhanceError as error:
                # While a path is being typed there is no folder yet.
                problem = str(error) if Path(folder).exists() else ""
        selector.enabled = selector.count > 1
        self.onReader()
        self._say(problem)

    def onReader(self, _index=0):
        """Let who has chosen a name sign in."""
        selector, button = self.ui.readerSelector, self.ui.signInButton
        button.enabled = selector.currentIndex > 0
        if button.enabled:
            button.toolTip = _("Begin to read, or go on where you stopped.")
        else:
            button.toolTip = _("Choose your name first.") if selector.enabled else _("Choose a study first.")

    def onSignIn(self):
        """Begin to read, or go on."""
        folder, reader = Path(self.ui.folderEdit.currentPath), self.ui.readerSelector.currentText
        try:
            self.desk.signIn(folder, reader)
        except CTEnhanceError as error:
            self._say(str(error))
            return
        self._say("")
        self.ui.readerSelector.currentIndex = 0  # whoever reads next chooses again
        slicer.app.userSettings().setValue(FOLDER_SETTING, str(folder))

    def _say(self, problem):
        self.ui.signInLabel.styleSheet = styles.failure()
        self.ui.signInLabel.text = problem
        self.ui.signInLabel.visible = bool(problem)


class CTReaderStudyTest(ScriptedLoadableModuleTest):
    """What can be tested wherever Slicer runs: a study's image on its way into a view, and refusals."""

    def setUp(self):
        """Begin with an empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self):
        """Run all."""
        self.setUp()
        self.test_views()
        self.setUp()
        self.test_refusals()

    def test_views(self):
        """Two images stand in linked views under neutral names, and go again."""
        import numpy as np

        from CTEnhanceLib.process.transfer import LoadedVolume
        from CTEnhanceLib.scene import volumes

        image, values = volumes.newImage((4, 16, 16), np.int16)
        values[...] = np.arange(16, dtype=np.int16)
        layout = slicer.app.layoutManager().layout
        shown = views.StudyViews(lambda level, width: None, lambda: None)
        shown.show([LoadedVolume(image, np.eye(4))] * 2, 40, 400)
        names = [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")]
        self.assertEqual(sorted(names), [_("Left"), _("Right")])
        shown.leave()
        self.assertEqual(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"), [])
        self.assertEqual(slicer.app.layoutManager().layout, layout)

    def test_refusals(self):
        """A folder without a study is refused in a sentence."""
        with self.assertRaises(CTEnhanceError):
            CTReaderStudyLogic().study(slicer.app.temporaryPath)
