"""A folder that the user chooses."""

from __future__ import annotations

from typing import Any

import qt


def chooseFolder(parent: Any, title: str, start: str = "") -> str:
    """Have the user choose a folder, and return its path; empty where he would rather not.

    While a path is typed, Qt's dialog selects the folders on the way one after another, and keeps them
    selected: `QFileDialog.getExistingDirectory` returns the first one, a parent of what was typed. The last
    one is meant.
    """
    dialog = qt.QFileDialog(parent, title, start)
    dialog.setFileMode(qt.QFileDialog.Directory)
    dialog.setOption(qt.QFileDialog.ShowDirsOnly, True)
    chosen = dialog.selectedFiles() if dialog.exec_() else ()
    dialog.deleteLater()
    return str(chosen[-1]) if chosen else ""
