"""A small stand-in for the Slicer application, on the real MRML libraries (slicer-core) and PySide6.

Imported, it puts `qt`, `ctk` and what slicer-core lacks of `slicer` in place, with the application's names
and PythonQt's semantics; everything else raises. `start()` makes the application, `addModule` opens a panel.
Message boxes do not wait: see `messages` and `answers`. The rest of `slicer.util` is slicer-core's own.
"""

from . import scripted
from .application import addModule, answers, messages, start

__all__ = ["addModule", "answers", "messages", "scripted", "start"]
