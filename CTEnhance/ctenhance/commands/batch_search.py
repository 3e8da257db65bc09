"""What a folder holds, told while it is walked: volume files, DICOM series, projections, and what is none.

Which series are one, and which are scouts, is known when all of a study has been seen. So the series of a
study wait until LATER further folders brought nothing of it. Should one bring more after all, the folders of
that study are looked into again at the end, and what was told of them is taken back where it was wrong. What
was told lies in a temporary file, so memory holds a few studies, however many there are.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from os.path import exists, isfile, realpath
from pathlib import Path

from ctenhance.batch.case import OWN_FOLDER
from ctenhance.commands.options import Choice
from ctenhance.files.dicom.choice import Conditions
from ctenhance.files.dicom.parted import SERIES_NUMBER
from ctenhance.files.dicom.search import FoundSeries, bystanders, join, label, numbered, search
from ctenhance.files.finished import Finished
from ctenhance.files.names import CLOUD
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import stem_of

#: With these begin reasons that are told at the end, as whoever gave the folder meant what is left out so.
NOT_THERE, ARCHIVE, MISNAMED = "no series", "an archive", "misnamed"
#: With this begins the reason of a result that the verb at hand has made.
AGAIN = "a result of an earlier batch, and"
#: So many folders after the last one of a study its series are told.
LATER = 16


@dataclass(frozen=True)
class Item:
    """A CT, projections, or images at energies (`beside`), that were found; `places` are where the result may
    go inside the output folder, best first."""

    name: str
    files: tuple[Path, ...]
    places: tuple[Path, ...]
    problem: str = ""
    is_dicom: bool = False
    beside: tuple[Path, ...] = ()
    #: Which of the files' images are meant, besides what the user chose: an attribute with its value.
    where: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> str:
        """Which files these are, in any order."""
        return hashlib.sha256(b"\0".join(sorted(os.fsencode(file) for file in self.files))).hexdigest()


@dataclass(frozen=True)
class LeftOut:
    """What is no case, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class TakenBack:
    """An item that was told, by its key, and is none after all."""

    key: str
    reason: str = (
        "what was found later of its study shows that it is a part of a series in several folders, or a scout"
    )


Entry = Item | LeftOut | TakenBack


def name_in(path: Path, source: Path) -> str:
    """The path inside the input folder, as it can be written anywhere."""
    inside = path.relative_to(source).as_posix() if path != source else path.resolve().name
    return as_text(inside)


def as_text(name: str) -> str:
    """Return a name as it can be written anywhere: what is no UTF-8 in it as question marks."""
    return name.encode("utf-8", "replace").decode("utf-8")


def place_of(folder: Path, source: Path) -> Path:
    """Where the result of a folder goes inside the output folder; the input folder may be itself a series."""
    return folder.relative_to(source) if folder != source else Path(folder.resolve().name or "ct")


def cannot_read(folder: Path, reason: str) -> str:
    """The sentence of what could not be looked into."""
    return f"Cannot read '{folder}': {reason[0].lower()}{reason[1:]}"


def folders_of(source: Path, *others: Path) -> Iterator[tuple[Path, list[str], list[Path], str]]:
    """Yield each folder with its folders and files, both sorted, and why it cannot be looked into, or ''.

    Links are followed, as archives of links are usual, but no folder is visited twice. Hidden ones are
    unfinished files and other programs' own, and what a batch tells of itself holds none; `others`, such as
    an output folder inside, are no input.
    """
    unreadable: dict[str, str] = {}

    def note(error: OSError) -> None:
        unreadable[os.fspath(error.filename)] = (
            f"it cannot be opened ({error.strerror}); check its permissions."
        )

    # Hashes, as there may be a million of them.
    visited = {hash(realpath(one)) for one in others}
    visited |= {hash(os.fspath(parent)) for parent in source.resolve().parents}
    for directory, folders, names in os.walk(source, followlinks=True, onerror=note):
        here = Path(directory)
        visited.add(hash(realpath(here)))
        kept = []
        for name in sorted(folders):
            place = hash(realpath(here / name))
            if name[0] != "." and name != OWN_FOLDER and place not in visited:
                visited.add(place)
                kept.append(name)
        folders[:] = kept
        yield here, kept, _files_among(here, names), ""
    for directory, problem in sorted(unreadable.items()):
        yield Path(directory), [], [], problem


def _files_among(here: Path, names: Iterable[str]) -> list[Path]:
    visible = [here / name for name in sorted(names) if name[0] != "." or name.endswith(CLOUD)]
    # A broken link counts as a missing file; reading a pipe would never end.
    return [path for path in visible if isfile(path) or not exists(path)]


def why_result(file: Path, source: Path, verb: str) -> str:
    """Why a volume file is left out as a result of an earlier batch, or ''.

    Results are inputs of another `verb` where the input folder is the output folder of their batch, or lies
    in it; among the originals they would be taken for further patients.
    """
    report = Finished(file).report
    if not report.get("output"):
        stem = stem_of(file).rpartition(".")[0]
        written = Finished(file.with_name(f"{stem}.nii.gz")).report.get("output") if stem else None
        further = (written if isinstance(written, dict) else {}).get("further") or {}
        return "a further image of an earlier result" if file.name in further else ""
    if report.get("verb") == verb:
        return f"{AGAIN} {verb}d already"
    above = source.absolute()
    inside = [one for one in file.absolute().parents if above in one.parents]
    if any((one / OWN_FOLDER).is_dir() for one in inside) or not any(
        (one / OWN_FOLDER).is_dir() for one in (above, *above.parents)
    ):
        return f"a result of an earlier batch; to go on from it, give that batch's folder with '{OWN_FOLDER}'"
    return ""


@dataclass(eq=False)
class _Group:
    """Series that belong together: of one study, or in one folder."""

    series: list[FoundSeries] = field(default_factory=list)
    bonds: set[str] = field(default_factory=set)
    folders: dict[Path, None] = field(default_factory=dict)
    last: int = 0

    def take(self, other: _Group) -> None:
        self.series += other.series
        self.bonds |= other.bonds
        self.folders |= other.folders


class Studies:
    """The DICOM series of a walk, from `add` until they are told."""

    def __init__(self, source: Path, choice: Choice, conditions: Conditions) -> None:
        self.source, self.choice, self.conditions = source, choice, conditions
        self._waiting: dict[_Group, None] = {}
        self._by_bond: dict[str, _Group] = {}
        self._indices: dict[Path, Path] = {}  # of discs, by their folders
        self._number = 0
        # SQLite's own temporary file, gone with the process.
        self._base = sqlite3.connect("", check_same_thread=False)
        self._base.executescript(
            "CREATE TABLE seen (bond TEXT, number INTEGER, folder BLOB);"
            "CREATE INDEX seen_bond ON seen (bond);"
            "CREATE INDEX seen_number ON seen (number);"
            "CREATE TABLE told (key TEXT PRIMARY KEY, number INTEGER);"
        )

    def close(self) -> None:
        """Let go of the temporary file."""
        self._base.close()

    def add(self, folder: Path, files: Sequence[Path], at: int) -> str:
        """Look at the files of a folder, the `at`-th; return why they hold no slices, or ''.

        Raises InputError as `search` does.
        """
        indices: list[Path] = []
        series, why_none = search(files, self.conditions, indices)
        self._indices |= dict(zip([folder], indices, strict=False))
        if series:
            new = _Group(list(series), {bond for one in series if (bond := _bond(one))}, {folder: None})
            group: _Group | None = None
            for other in dict.fromkeys(self._by_bond[bond] for bond in new.bonds & self._by_bond.keys()):
                if group is None:
                    group = other
                else:
                    group.take(other)
                    del self._waiting[other]
            if group is None:
                group = new
            else:
                group.take(new)
            group.last = at
            self._waiting[group] = None
            self._by_bond |= dict.fromkeys(group.bonds, group)
        return why_none

    def index_of(self, file: Path) -> Path | None:
        """The index (DICOMDIR) of the disc that a file is on, or None."""
        return next((self._indices[above] for above in file.parents if above in self._indices), None)

    def ripe(self, at: int) -> Iterator[Entry]:
        """Tell of the series of which the last LATER folders before the `at`-th brought nothing more."""
        for group in [one for one in self._waiting if at - one.last > LATER]:
            del self._waiting[group]
            for bond in group.bonds:
                del self._by_bond[bond]
            self._number += 1
            self._base.executemany(
                "INSERT INTO seen VALUES (?, ?, ?)",
                [
                    (bond, self._number, os.fsencode(folder))
                    for bond in (group.bonds or {""})
                    for folder in group.folders
                ],
            )
            yield from self._entries(group.series, self._number)

    def rest(self, at: int) -> Iterator[Entry]:
        """Tell of all others, and take back what later folders have shown to be wrong."""
        yield from self.ripe(at + LATER + 1)
        done: set[int] = set()
        split = "SELECT bond FROM seen WHERE bond != '' GROUP BY bond HAVING count(DISTINCT number) > 1"
        for (bond,) in self._base.execute(split).fetchall():
            numbers = self._tied(bond)
            if not numbers & done:
                done |= numbers
                yield from self._again(numbers)

    def _tied(self, bond: str) -> set[int]:
        """The groups that turned out to be one, from one bond that several have."""
        numbers: set[int] = set()
        bonds, known = {bond}, set()
        while bonds:
            known |= bonds
            for one in bonds:
                rows = self._base.execute("SELECT DISTINCT number FROM seen WHERE bond = ?", (one,))
                numbers |= {number for (number,) in rows}
            bonds = {
                found
                for number in numbers
                for (found,) in self._base.execute("SELECT bond FROM seen WHERE number = ?", (number,))
                if found
            } - known
        return numbers

    def _again(self, numbers: set[int]) -> Iterator[Entry]:
        folders: dict[Path, None] = {}
        earlier: set[str] = set()
        for number in sorted(numbers):
            found = self._base.execute("SELECT folder FROM seen WHERE number = ?", (number,))
            folders |= {Path(os.fsdecode(folder)): None for (folder,) in found}
            rows = self._base.execute("SELECT key FROM told WHERE number = ?", (number,))
            earlier |= {key for (key,) in rows}
        series: list[FoundSeries] = []
        try:
            for folder in folders:
                series += search(dicom_among(_files_among(folder, os.listdir(folder))), self.conditions)[0]
        except (InputError, OSError):
            return  # it changes: reading its cases will say so
        entries = list(series_entries(join(series), self.source, self.choice))
        now = {one.key for one in entries if isinstance(one, Item)}
        yield from (TakenBack(key) for key in sorted(earlier - now))
        for one in entries:
            if not isinstance(one, Item) or one.key not in earlier:
                yield one

    def _entries(self, series: Sequence[FoundSeries], number: int) -> Iterator[Entry]:
        for one in series_entries(join(series), self.source, self.choice):
            if isinstance(one, Item):
                self._base.execute("INSERT OR REPLACE INTO told VALUES (?, ?)", (one.key, number))
            yield one


def _bond(series: FoundSeries) -> str:
    """What says that two series may belong together: their study, or, without one, their UID."""
    return series.study or series.uid


def dicom_among(files: Iterable[Path]) -> list[Path]:
    """Those that are no volume files by their names."""
    from ctenhance.core.volume import READABLE_SUFFIXES
    from ctenhance.runtime.files import suffix_of

    return [file for file in files if suffix_of(file) not in READABLE_SUFFIXES]


def series_entries(series: Sequence[FoundSeries], source: Path, choice: Choice) -> Iterator[Item | LeftOut]:
    """The items among series that belong together, by their names, and what is left out of them.

    `choice` leaves of the series only those with this number or UID and with images of this kind. A folder
    with several series gets a folder for their results, which are named by the series' numbers: names of
    files and descriptions may name a patient.
    """
    aside = bystanders(series)
    homes: dict[Path, list[FoundSeries]] = {}
    items = []
    others: dict[str | Path, list[LeftOut]] = {}  # by study
    asked: set[str | Path] = set()
    for one in series:
        if one in aside:
            yield LeftOut(name_in(one.home, source), "a scout or pictures beside the CT of the same study")
        else:
            homes.setdefault(one.home, []).append(one)
    for home, members in homes.items():
        inside = place_of(home, source)
        for number, one in numbered(members).items():
            name, place = name_in(home, source), inside
            if len(members) > 1:
                name, place = f"{name} (series {number})", inside / f"series-{number}"
            own = str(one.first.header.get(SERIES_NUMBER) or "").strip()
            given = (choice.series or "").strip()
            # Some anonymisers give one UID to several series: --series then means those of this number.
            shared = given != one.uid and given in one.numbers and len(one.numbers) > 1
            if shared:
                name, place = f"{name_in(home, source)} (series {given})", inside / f"series-{given}"
            if choice.series is not None and not shared and given not in (str(number), own, one.uid):
                others.setdefault(one.study or home, []).append(LeftOut(name, label(number, one)))
                continue
            asked.add(one.study or home)
            if one.excluded:
                yield LeftOut(name, one.excluded.rstrip("."))
            else:
                problem = cannot_read(home, one.problem) if one.problem else ""
                where = ((SERIES_NUMBER, given),) if shared else ()
                items.append(Item(name, one.files, (place,), problem, is_dicom=True, where=where))
    for study, left_out in others.items():
        begin = "" if study in asked else f"{NOT_THERE} {choice.series} in its study but "
        for passed in left_out:
            yield LeftOut(passed.name, f"{begin}{passed.reason}, not asked for")
    yield from sorted(items, key=lambda item: item.name)
