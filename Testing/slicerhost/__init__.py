"""A small stand-in for the Slicer application, on the real MRML libraries (slicer-core) and PySide6.

`start()` puts `qt`, `ctk` and what slicer-core lacks of `slicer` in place, with the application's names
and PythonQt's semantics; everything else raises. Message boxes do not wait: see `messages` and `answers`.
"""

from __future__ import annotations

import os
import stat
import sys
import types
from pathlib import Path
from typing import Any

# What message boxes said (text, details), and what the next ones will answer.
messages: list[tuple[str, str]] = []
answers: list[int] = []


def start() -> Any:
    """Start the application once a process; return `slicer.app`."""
    import slicer

    if hasattr(slicer, "app"):
        return slicer.app
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    import slicer.util

    from . import pythonqt, widgets

    slicer.util = sys.modules["slicer.util"]
    slicer.vtkMRMLMessageCollection  # noqa: B018  (slicer-core is whole)
    sys.modules["qt"] = pythonqt.QtModule("qt")
    ctk = sys.modules["ctk"] = pythonqt.ClosedModule("ctk")
    for name in ("ctkMessageBox", "ctkCollapsibleButton", "ctkSliderWidget"):
        setattr(ctk, name, getattr(widgets, name))
    slicer.qMRMLWidget, slicer.qMRMLNodeComboBox = widgets.qMRMLWidget, widgets.qMRMLNodeComboBox
    slicer.modules = pythonqt.ClosedModule("slicer.modules")
    slicer.mrmlScene = slicer.vtkMRMLScene()

    from . import application, subjecthierarchy

    slicer.qSlicerScriptedLoadableModuleWidget = application.ScriptedModuleWidget
    slicer.qSlicerScriptedLoadableModule = application.ScriptedModule
    app = slicer.app = application.Application()
    logics = {
        "colors": "vtkSlicerColorLogic",
        "volumes": "vtkSlicerVolumesLogic",
        "markups": "vtkSlicerMarkupsLogic",
    }
    for name, className in logics.items():
        logic = getattr(slicer, className)()
        if name == "colors":
            # Where the application keeps its colour files; without a folder the logic complains.
            app.applicationLogic().SetHomeDirectory(app.temporaryPath)
            app.applicationLogic().SetShareDirectory("share")
            Path(app.temporaryPath, "share", "ColorFiles").mkdir(parents=True)
        logic.SetMRMLApplicationLogic(app.applicationLogic())
        logic.SetMRMLScene(slicer.mrmlScene)
        app.applicationLogic().SetModuleLogic(name.capitalize(), logic)
        setattr(slicer.modules, name, application.CoreModule(logic))
    subjecthierarchy.follow(slicer.mrmlScene)
    app.layoutManager()
    _python(Path(app.temporaryPath))
    _submodules()
    return app


def addModule(path: Path) -> Any:
    """Load a scripted module; return what `slicer.modules.<name>` is."""
    from .application import addModule as add

    start()
    return add(path)


def _python(folder: Path) -> None:
    """Make a PythonSlicer: a launcher that starts the interpreter as its child, as the application's does."""
    launcher = folder / "bin" / "PythonSlicer"
    launcher.parent.mkdir(exist_ok=True)
    launcher.write_text(f'#!/bin/sh\n"{sys.executable}" "$@"\nexit $?\n', encoding="utf-8")
    launcher.chmod(launcher.stat().st_mode | stat.S_IXUSR)
    os.environ["PATH"] = f"{launcher.parent}{os.pathsep}{os.environ['PATH']}"


def _submodules() -> None:
    import slicer

    i18n = types.ModuleType("slicer.i18n")
    i18n.tr = lambda text: text
    i18n.translate = lambda context, text: text
    sys.modules["slicer.i18n"] = slicer.i18n = i18n

    from . import scripted

    wrapper = types.ModuleType("slicer.parameterNodeWrapper")
    for name in ("parameterNodeWrapper", "WithinRange"):
        setattr(wrapper, name, getattr(scripted, name))
    sys.modules["slicer.parameterNodeWrapper"] = slicer.parameterNodeWrapper = wrapper
    module = types.ModuleType("slicer.ScriptedLoadableModule")
    module.__all__ = [name for name in vars(scripted) if name.startswith("ScriptedLoadableModule")]
    for name in module.__all__:
        setattr(module, name, getattr(scripted, name))
    sys.modules["slicer.ScriptedLoadableModule"] = slicer.ScriptedLoadableModule = module
