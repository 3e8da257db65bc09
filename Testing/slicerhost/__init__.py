"""A small stand-in for the Slicer application, on the real MRML libraries (slicer-core) and PySide6.

`start()` puts `qt`, `ctk` and what slicer-core lacks of `slicer` in place, with the application's names
and PythonQt's semantics; everything else raises. Message boxes do not wait: see `messages` and `answers`.
`slicer.util` (loadUI, VTKObservationMixin, arrays, ...) is slicer-core's own, the application's.
"""

from __future__ import annotations

import importlib
import os
import sys
import types
from pathlib import Path
from typing import Any

# What message boxes said (text, details), and what the next ones will answer.
messages: list[tuple[str, str]] = []
answers: list[int] = []
# PySide6 returns None without taking a reference, as if None were immortal; before Python 3.12 it is not, and
# some ten thousand calls would end the interpreter. These references can be lost.
_nones = [None] * (4_000_000 if sys.version_info < (3, 12) else 0)


def start() -> Any:
    """Start the application once a process; return `slicer.app`."""
    import slicer

    if hasattr(slicer, "app"):
        return slicer.app
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    slicer.util = importlib.import_module("slicer.util")
    from . import pythonqt, widgets

    sys.modules["qt"] = pythonqt.QtModule("qt")
    ctk = sys.modules["ctk"] = pythonqt.ClosedModule("ctk")
    for name, value in vars(widgets).items():
        if name.startswith(("ctk", "qMRML")):
            setattr(ctk if name.startswith("ctk") else slicer, name, value)
    slicer.modules = pythonqt.ClosedModule("slicer.modules")
    slicer.mrmlScene = slicer.vtkMRMLScene()

    from . import application

    slicer.qSlicerScriptedLoadableModuleWidget = application.ScriptedModuleWidget
    slicer.qSlicerScriptedLoadableModule = application.ScriptedModule
    app = slicer.app = application.Application()
    _coreModules(app)
    application.followScene(slicer.mrmlScene)
    pythonqt.answering(app, layoutManager=application.LayoutManager(app.applicationLogic()))
    application.addDataProbe()
    _python(Path(app.temporaryPath))
    i18n = sys.modules["slicer.i18n"] = slicer.i18n = types.ModuleType("slicer.i18n")
    i18n.tr, i18n.translate = lambda text: text, lambda context, text: text
    for name in ("ScriptedLoadableModule", "parameterNodeWrapper"):
        sys.modules[f"slicer.{name}"] = importlib.import_module(f"{__name__}.scripted")
        setattr(slicer, name, sys.modules[f"slicer.{name}"])
    return app


def addModule(path: Path) -> Any:
    """Load a scripted module; return what `slicer.modules.<name>` is."""
    start()
    from .application import addModule as add

    return add(path)


def _coreModules(app: Any) -> None:
    """Have the logics of Slicer's own modules; of these modules nothing else is there."""
    import slicer

    # Where the application keeps its colour files; without a folder the logic complains.
    app.applicationLogic().SetHomeDirectory(app.temporaryPath)
    app.applicationLogic().SetShareDirectory("share")
    Path(app.temporaryPath, "share", "ColorFiles").mkdir(parents=True)
    for name in ("Color", "Volumes", "Markups"):
        logic = getattr(slicer, f"vtkSlicer{name}Logic")()
        logic.SetMRMLApplicationLogic(app.applicationLogic())
        logic.SetMRMLScene(slicer.mrmlScene)
        plural = "Colors" if name == "Color" else name
        app.applicationLogic().SetModuleLogic(plural, logic)
        setattr(slicer.modules, plural.lower(), types.SimpleNamespace(logic=lambda logic=logic: logic))


def _python(folder: Path) -> None:
    """Make a PythonSlicer: a launcher that starts the interpreter as its child, as the application's does."""
    launcher = folder / "bin" / "PythonSlicer"
    launcher.parent.mkdir(exist_ok=True)
    launcher.write_text(f'#!/bin/sh\n"{sys.executable}" "$@"\nexit $?\n', encoding="utf-8")
    launcher.chmod(0o755)
    os.environ["PATH"] = f"{launcher.parent}{os.pathsep}{os.environ['PATH']}"
