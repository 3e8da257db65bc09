"""Runs on projections: measured ones in a file or a folder, or those of a scan that is simulated first."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from slicer.i18n import tr as _

from ctenhance.options import Options
from ctenhance.runtime.errors import InputError
from CTEnhanceLib.process.run import Command, Job
from CTEnhanceLib.process.transfer import LoadedVolume

_SMALLEST_MATRIX = 16


class SimulatedScan(abc.ABC):
    """A scan that does not exist yet, at a dose in (0, 1]; 1 is the full one."""

    dose: float

    @property
    @abc.abstractmethod
    def scanned(self) -> str:
        """The name of what is scanned."""

    @abc.abstractmethod
    def command(self, folder: Path, projections: Path, options: Any) -> Command:
        """Return the verb that writes the projections; device and seed are those of the options."""

    @abc.abstractmethod
    def few(self) -> SimulatedScan:
        """Return the scan of two slices of it."""

    @abc.abstractmethod
    def count(self) -> int | None:
        """Return how many slices it has; None: there is nothing to scan yet."""

    @abc.abstractmethod
    def likeness(self) -> Hashable:
        """Return what the time that a slice takes depends on."""


Source = Path | SimulatedScan | None


class ProjectionJob(Job):
    """From projections (None: not chosen yet) to volume nodes; `options` are those of the verb."""

    def __init__(self, source: Source, options: Any) -> None:
        self.source, self.options = source, options
        self._loaded: dict[str, LoadedVolume] = {}

    def preceding(self, folder: Path) -> Sequence[Command]:
        """Simulate the scan, where there is none."""
        if not isinstance(self.source, SimulatedScan):
            return ()
        return [self.source.command(folder, _simulated(folder), self.options)]

    def projections(self, folder: Path) -> str:
        """Return the path of the projections."""
        return str(_simulated(folder) if isinstance(self.source, SimulatedScan) else self.source)

    def readable(self, sentence: str, folder: Path) -> str:
        """The worker knows a simulated scan by its temporary file only."""
        return sentence.replace(str(_simulated(folder)), _("simulated scan"))

    def few(self) -> Job | None:
        """A simulated scan is made of two slices; measured projections are not cut."""
        if not isinstance(self.source, SimulatedScan):
            return None
        return type(self)(self.source.few(), self.options)

    def slices(self) -> int | None:
        """As many as are to be simulated; a file's own are known to the worker."""
        return self.source.count() if isinstance(self.source, SimulatedScan) else None

    def likeness(self) -> Hashable:
        """Source and options, but for the seed."""
        source = self.source
        if isinstance(source, SimulatedScan):
            source = source.likeness() if source.count() else None
        return None if source is None else (source, repr(dataclasses.replace(self.options, seed=0)))

    def name(self) -> str:
        """Return what the results are called after.

        The dose comes first: Slicer cuts long names in their middle, and '25 %' must not become '5 %'.
        """
        source = self.source
        if not isinstance(source, SimulatedScan):
            return "" if source is None else source.name.split(".")[0]
        if source.dose == 1:
            return source.scanned
        return _("{percent:g} % {name}").format(percent=100 * source.dose, name=source.scanned)


def requireSource(source: Source, unchosen: str, folders: bool = False) -> None:
    """Raise InputError when there is nothing to run on; `unchosen` is the sentence where none was chosen.

    folders - whether projections may be a folder of files
    """
    if source is None:
        raise InputError(unchosen)
    if isinstance(source, SimulatedScan):
        if not 0 < source.dose <= 1:
            raise InputError(_("The dose must lie between 0 and 1, the full dose."))
    elif folders and not source.exists():
        raise InputError(_("There is no file or folder '{path}': choose another.").format(path=source))
    elif not folders and not source.is_file():
        raise InputError(_("There is no file '{path}': choose another.").format(path=source))


def requireMatrix(size: int | tuple[int, int] | None) -> None:
    """Raise InputError for images that are too small to be any; None is what the data suggest."""
    if size is not None and np.min(size) < _SMALLEST_MATRIX:
        sentence = _(
            "The matrix is too small: choose {least} pixels or more, or 0 for what the data suggest."
        )
        raise InputError(sentence.format(least=_SMALLEST_MATRIX))


def commonArguments(options: Options) -> list[str]:
    """Return the command line's options that every verb has which computes."""
    return ["--device", options.device, "--seed", str(options.seed)]


def _simulated(folder: Path) -> Path:
    return folder / "simulated.ctproj.h5"
