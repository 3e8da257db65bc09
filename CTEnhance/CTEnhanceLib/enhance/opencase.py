"""A case of a batch in the scene: its input and its result, to be compared."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from ctenhance.runtime.errors import CTEnhanceError, InputError
from ctenhance.runtime.files import stem_of, suffix_of
from CTEnhanceLib.enhance.job import resultName
from CTEnhanceLib.out import patient
from CTEnhanceLib.process import transfer
from CTEnhanceLib.process.run import Job
from CTEnhanceLib.scene import placing, windows

_VOLUME_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd")


def caseName(case: str) -> str:
    """Return what a case's input is called in the scene: as Slicer calls a file, without its suffix."""
    return stem_of(case) if suffix_of(case) in _VOLUME_SUFFIXES else Path(case).name


@dataclass
class OpenCaseJob(Job):
    """Loads a case (`ctenhance.batch.case.Case`) as the batch has read it, beside its result.

    `name`: what the input is called in the scene. `study`: the DICOM series that it is, where known.
    """

    case: Any
    name: str
    study: patient.Study | None = None
    uids: tuple[str, ...] = ()

    stages = {"read": 60, "write": 40}  # noqa: RUF012
    _loaded: dict[str, transfer.LoadedVolume] = field(default_factory=dict)

    def problem(self) -> str:
        """Say what is missing, if anything."""
        files = self.study.files if self.study is not None and self.study.files else self.case.files
        missing = next(
            (file for file in (*files[:1], self.case.output, self.case.report) if not file.exists()), None
        )
        if not files or missing is not None:
            return _("'{file}' is not there any more: run the batch again.").format(
                file=missing or self.case.name
            )
        return ""

    def prepare(self, folder: Path) -> Iterator[float]:
        """Have the files of the case together, if they are not."""
        files = self.case.files
        if self.study is not None:
            like = yield from self.study.prepare(folder)
            self._input = [like[1], *like[2:]]
        elif len(files) == 1 and suffix_of(files[0]) in _VOLUME_SUFFIXES:
            self._input = [str(files[0])]
        else:
            yield from patient.gather(tuple(files), folder / "case")
            self._input = [str(folder / "case")]
        yield 1.0

    def arguments(self, folder: Path) -> list[str]:
        """Ask for the input as every command reads it."""
        source, *choice = self._input
        for keyword, value in self.case.where.items():
            choice += ["--where", f"{keyword}={value}"]
        return ["convert", source, str(folder / "input.nii"), *choice]

    def load(self, outputs: Mapping[str, Path]) -> Iterator[float]:
        """Read the input, and the result where the batch has put it."""
        self._loaded = yield from transfer.readNiftis(
            {"input": outputs["volume"], "result": self.case.output}
        )

    def place(self, report: dict[str, Any]) -> Any:
        """Put both into the scene; return the result."""
        before, after = self._loaded["input"], self._loaded["result"]
        if before.array.shape != after.array.shape:
            raise CTEnhanceError(_("The input of the case has changed since: run the batch again."))
        try:
            own = json.loads(self.case.report.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                _("The report of the case cannot be read ({reason}): run the batch again.").format(
                    reason=error
                )
            ) from error
        with placing.whole() as added:
            source = placing.addNode("vtkMRMLScalarVolumeNode", self.name, added)
            placing.addFixedDisplay(source, added)
            placing.addVolume(before.image, before.ijkToRAS, self.name, added, output=source)
            windows.setWindow(source, windows.suitable(before.array))
            if self.study is None and suffix_of(self.case.files[0]) not in _VOLUME_SUFFIXES:
                patient.noteFiles(source, tuple(self.case.files))
            if self.uids:
                source.SetAttribute("DICOM.instanceUIDs", " ".join(self.uids))
            name = resultName(self.name, own)
            result = placing.addVolume(after.image, after.ijkToRAS, name, added, before=source)
            placing.attachReport(result, own, added)
        return result

    def readable(self, sentence: str, folder: Path) -> str:
        """Files gathered for the worker are the case's."""
        return sentence.replace(str(folder / "case"), self.name).replace(str(folder / "patient"), self.name)
