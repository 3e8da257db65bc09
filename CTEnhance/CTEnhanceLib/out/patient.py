"""Whose images a volume was made of: the DICOM series that it came from, in Slicer's DICOM database."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from ctenhance.runtime.errors import InputError
from CTEnhanceLib.scene.plural import plural

_FILES = "CTEnhanceDICOMFiles"


@dataclass(frozen=True)
class Study:
    """DICOM images of a patient, whose study an exported series joins.

    `folder` is one that the user named; or `files` are those of a series of the database, called `series`.
    """

    folder: Path | None = None
    files: tuple[Path, ...] = ()
    series: str = ""

    @classmethod
    def typed(cls, text: str) -> Study | None:
        """Return the study of a folder as typed or pasted; None for an empty text."""
        path = text.strip().strip('"')
        return cls(folder=Path(path).expanduser()) if path else None

    def problem(self) -> str:
        """Return the sentence that says why it cannot be read, or an empty one."""
        place = self.folder or (self.files[0] if self.files else None)
        if place is not None and place.exists():
            return ""
        return _("There is no folder '{path}' with images of the patient: choose another, or none.").format(
            path=place
        )

    def prepare(self, folder: Path) -> Generator[float, None, list[str]]:
        """Return what the command line says of it, in short steps.

        Files of a series that lie in several folders are linked (or copied) into one.
        """
        if self.folder is not None:
            return ["--like", str(self.folder)]
        places = {file.parent for file in self.files}
        if len(places) == 1 and self.series:
            return ["--like", str(places.pop()), "--series", self.series]
        gathered = folder / "patient"
        yield from gather(self.files, gathered)
        return ["--like", str(gathered)]


def gather(files: tuple[Path, ...], folder: Path) -> Iterator[float]:
    """Put files into one new folder under numbers, as links where that can be; yield the fraction done.

    Raises InputError for a file that is gone.
    """
    folder.mkdir(parents=True)
    for number, file in enumerate(files):
        target = folder / f"{number:05d}.dcm"
        try:
            try:
                os.link(file, target)
            except OSError:  # another disk, or one without links
                shutil.copyfile(file, target)
        except OSError as error:
            raise InputError(
                _(
                    "'{file}' of the DICOM database cannot be read ({reason}): import the series again."
                ).format(file=file, reason=error.strerror or error)
            ) from error
        yield (number + 1) / len(files)


def openDatabase() -> Any:
    """Return Slicer's DICOM database, or None while there is none that is open."""
    database = getattr(slicer, "dicomDatabase", None)
    return database if database is not None and database.isOpen else None


def firstFile(node: Any) -> str:
    """Return the path of the first DICOM image that a volume was loaded from; '' where none is known."""
    uids = (node.GetAttribute("DICOM.instanceUIDs") or "").split() if node is not None else []
    database = getattr(slicer, "dicomDatabase", None)
    return str(database.fileForInstance(uids[0]) or "") if uids and database is not None else ""


def noteFiles(node: Any, files: tuple[Path, ...]) -> None:
    """Note of which DICOM files a volume was made, where the database does not know them."""
    node.SetAttribute(_FILES, "\n".join(str(file) for file in files))


def studyOf(node: Any) -> Study | None:
    """Return the series that a volume was loaded from, where the database has it or its files are noted; else
    None."""
    noted = (node.GetAttribute(_FILES) or "").split("\n") if node is not None else []
    if noted and noted[0] and Path(noted[0]).exists():
        return Study(files=tuple(Path(file) for file in noted))
    file = firstFile(node)
    database = openDatabase()
    if not file or database is None:
        return None
    series = str(database.seriesForFile(file) or "")
    files = tuple(Path(one) for one in (database.filesForSeries(series) if series else ()))
    return Study(files=files or (Path(file),), series=series)


def insert(folder: Path) -> Iterator[float]:
    """Put the DICOM files of a folder into the database, as copies of its own; yield the fraction done.

    Raises InputError while the database is not open.
    """
    database = openDatabase()
    if database is None:
        raise InputError(noDatabase())
    files = sorted(path for path in folder.iterdir() if path.is_file())
    for number, path in enumerate(files):
        database.insert(str(path), True, False)
        yield (number + 1) / len(files)


def noDatabase() -> str:
    """Return why nothing goes into the database."""
    return _(
        "Slicer has no DICOM database yet: open the module DICOM, and if it says that there "
        "is none, press 'Create new database' there."
    )


@dataclass(frozen=True)
class Series:
    """A CT series of the database. `derived`: it is no scanner's, but made of another one, or a scout."""

    uid: str
    text: str
    files: tuple[Path, ...]
    derived: bool


_MODALITY, _NAME, _DATE = "0008,0060", "0010,0010", "0008,0020"
_DESCRIPTION, _TYPE = "0008,103e", "0008,0008"


def ctSeries() -> Iterator[tuple[float, Series | None]]:
    """Yield the fraction done and, where there is one, a CT series of the database, patient by patient."""
    database = openDatabase()
    patients = () if database is None else database.patients()
    for number, person in enumerate(patients):
        for study in database.studiesForPatient(person):
            for uid in database.seriesForStudy(study):
                files = tuple(Path(file) for file in database.filesForSeries(uid))
                yield number / len(patients), _series(database, str(uid), files)


def instancesOf(uid: str) -> tuple[str, ...]:
    """Return the UIDs of the images of a series, as volume nodes name what they were loaded from."""
    database = openDatabase()
    return () if database is None else tuple(str(one) for one in database.instancesForSeries(uid))


def _series(database: Any, uid: str, files: tuple[Path, ...]) -> Series | None:
    if not files or database.fileValue(str(files[0]), _MODALITY) != "CT":
        return None
    name, date, description, kind = (
        str(database.fileValue(str(files[0]), tag) or "").strip()
        for tag in (_NAME, _DATE, _DESCRIPTION, _TYPE)
    )
    words = (name.replace("^", " ").strip(), date, description or _("CT"))
    what = ", ".join(filter(None, words))
    text = plural(len(files), _("{what}, 1 image"), _("{what}, {count} images"), what=what)
    derived = "DERIVED" in kind.upper() or "LOCALIZER" in kind.upper()
    return Series(uid, text, files, derived)
