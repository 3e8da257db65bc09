"""Which CTs a folder holds, and where the results of each go: the cases of `ctenhance batch`, as they are
found."""

from __future__ import annotations

import functools
import itertools
import os
import sqlite3
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ctenhance.batch import labels
from ctenhance.batch.case import INDEX, OWN_FOLDER, Case
from ctenhance.commands.batch_images import ONE_ENERGY, ImagePatterns
from ctenhance.commands.batch_search import (
    AGAIN,
    ARCHIVE,
    MISNAMED,
    Entry,
    Item,
    LeftOut,
    Studies,
    TakenBack,
    as_text,
    cannot_read,
    dicom_among,
    folders_of,
    name_in,
    place_of,
    why_result,
)
from ctenhance.commands.options import Choice
from ctenhance.core.volume import READABLE_SUFFIXES
from ctenhance.files.ctpd.reading import is_ctpd
from ctenhance.files.dicom.choice import Conditions
from ctenhance.files.names import misnamed
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import stem_of, suffix_of
from ctenhance.runtime.progress import Cancellable, CancelToken, check

_PACKED = (".zip", ".tar", ".tgz", ".7z", ".rar", ".gz", ".bz2", ".xz", ".zst", ".iso")
_MOST_LISTED = 6
#: Of so many that are left out the names are known for the sentence that says why there is no case.
_MOST_KEPT = 1000
#: What is looked for.
CTS, PROJECTIONS, IMAGES = "CTs", "projections", "images at energies"
PROJECTION_SUFFIX = ".ctproj.h5"
_ENDINGS = (".nii.gz", ".report.json")


@dataclass(frozen=True)
class Partners:
    """Folders with files that go with the cases, by the same names: label maps, and volumes to compare with.

    Raises InputError for folders that are none, and for two label maps of one case.
    """

    labels: Path | None = None
    after: Path | None = None
    reference: Path | None = None

    def __post_init__(self) -> None:
        for path in (self.labels, self.after, self.reference):
            if path is not None and not path.is_dir():
                raise InputError(f"There is no folder '{path}'; check the path.")

    def of(self, case: Case, target: Path) -> Case:
        """The case with the files that go with it, by its place in the output folder.

        Without its volume there it has a problem; without a label map it goes without.
        """
        place = case.output.relative_to(target)
        place = place.with_name(stem_of(place))
        beside: dict[str, Path] = {}
        problem = case.problem
        label = None if self.labels is None else labels.at(self.labels, place)
        if self.labels is not None and place.parts[0].casefold() == labels.KIND:
            problem = problem or (
                f"'{labels.KIND}' is where label maps go in the output folder: give the folder '"
                f"{place.parts[0]}' another name, or take it out of the input."
            )
        if label is not None:
            out = target / labels.KIND / place.with_name(f"{place.name}{suffix_of(label)}")
            beside |= {labels.KIND: label, f"{labels.KIND} out": out}
        for name, folder in (("after", self.after), ("reference", self.reference)):
            if folder is None:
                continue
            partner = _partner(folder, place)
            if partner is not None:
                beside[name] = partner
            else:
                problem = problem or f"There is no '{place}' in '{folder}'; give the folder with its partner."
        return replace(case, beside=beside, problem=problem)


def _partner(folder: Path, place: Path) -> Path | None:
    """The one volume file, or DICOM folder, at a place."""
    for suffix in READABLE_SUFFIXES:
        file = folder / place.with_name(f"{place.name}{suffix}")
        if file.is_file():
            return file
    return folder / place if (folder / place).is_dir() else None


@dataclass(frozen=True)
class Withdrawn:
    """A case that was found and is none after all: later folders had the rest of it."""

    name: str
    reason: str


class CaseSearch:
    """Every volume file and every DICOM series of a folder, at any depth; the results keep its folders.

    In place of these, PROJECTIONS are every projection file and every folder of DICOM-CT-PD files, and IMAGES
    what `images` name ('40=low.nii.gz', '40=*_40.nii.gz', '.') in one folder. Results of earlier batches are
    CTs for another `verb` where `source` is the folder of that batch. Iterate over it once: it gives what it
    finds while it goes through the folders, in no order but that of the walk.

    Raises InputError when `source` is no folder or holds no CT, or none that was chosen, before it gives the
    first case, and when results would go into it among the inputs.
    """

    def __init__(
        self,
        source: Path,
        target: Path,
        choice: Choice | None = None,
        kind: str = CTS,
        partners: Partners | None = None,
        cancel: Cancellable | None = None,
        images: Sequence[str] = (),
        verb: str = "enhance",
    ) -> None:
        _check_folders(source, target)
        self.source, self.target, self.verb = source, target, verb
        self.choice, self.kind = choice or Choice(), kind
        self.pairs = ImagePatterns.of(images) if kind == IMAGES else None
        self.partners, self.cancel = partners or Partners(), cancel or CancelToken()
        if kind == PROJECTIONS and self.choice:
            raise InputError("Series and images can be chosen among CTs only; leave the choice out.")
        self.conditions = Conditions.of(self.choice.where)
        #: Folders that were looked into, and label maps that went to a case, so far.
        self.folders, self.labelled = 0, 0
        self._places = _Places()
        self._studies: Studies | None = None
        self._left_out: dict[str, str] = {}
        self._dicom, self._empty, self._packed = False, True, ""

    def __iter__(self) -> Iterator[Case | LeftOut | Withdrawn]:
        held: list[Case] = []
        any_case = False
        entries_of = {CTS: self._cts, PROJECTIONS: self._projections, IMAGES: self._images}
        for entry in entries_of[self.kind]():
            check(self.cancel)
            if isinstance(entry, LeftOut):
                if len(self._left_out) < _MOST_KEPT:
                    self._left_out[entry.name] = entry.reason
                yield entry
            elif isinstance(entry, TakenBack):
                yield Withdrawn(self._places.name_of(entry.key), entry.reason)
            else:
                # That nothing was chosen is to be known before the first case.
                held.append(self._case(entry))
                if any_case or not self.choice or entry.is_dicom or self.kind == IMAGES:
                    any_case = True
                    yield from held
                    held.clear()
        if not any_case:
            raise InputError(self._why_no_case())

    def gone(self) -> Path | None:
        """The folder of the cases or of the results, where one is not there any more."""
        if not (self.target / OWN_FOLDER).is_dir():
            return self.target
        return None if self.source.is_dir() else self.source

    def has_place(self, place: Path) -> bool:
        """Whether a case was found whose result has this place in the output folder."""
        return self._places.taken(place)

    def _case(self, item: Item) -> Case:
        place, name = self._places.give(item)
        case = Case(name, item.files, self.target / f"{place}.nii.gz", item.problem)
        if item.is_dicom:
            where = {**self.choice.where, **dict(item.where)}
            conditions = Conditions.of(where) if item.where else self.conditions
            case = replace(case, where=where, slices=conditions.note() or case.slices)
        _check_output(case, self.source, self.target)
        case = self.partners.of(case, self.target)
        if item.beside:
            case = replace(case, beside={f"image {k:02}": path for k, path in enumerate(item.beside)})
        if self._studies is not None and item.is_dicom and (index := self._studies.index_of(item.files[0])):
            case = replace(case, beside={**case.beside, INDEX: index})
        self.labelled += labels.KIND in case.beside
        return case

    def _cts(self) -> Iterator[Entry]:
        studies = self._studies = Studies(self.source, self.choice, self.conditions)
        try:
            for here, inside, files, problem in folders_of(self.source, *self._no_inputs()):
                self.folders += 1
                check(self.cancel)
                yield from self._volume_files(here, inside, files)
                try:
                    if problem:
                        raise InputError(problem)
                    why_none = studies.add(here, dicom_among(files), self.folders)
                except InputError as error:
                    yield self._not_readable(here, str(error))
                    continue
                if why_none:
                    yield LeftOut(name_in(here, self.source), why_none.partition(";")[0].rstrip("."))
                for entry in studies.ripe(self.folders):
                    self._dicom = True
                    yield entry
            for entry in studies.rest(self.folders):
                self._dicom = True
                yield entry
            yield from self._places.later()
        finally:
            studies.close()

    def _volume_files(self, here: Path, inside: Sequence[str], files: Sequence[Path]) -> Iterator[Entry]:
        """The volume files of a folder with the folders `inside`."""
        self._empty = self._empty and not files
        others = dicom_among(files)
        for file in others:
            if any(one in file.name.lower() for one in READABLE_SUFFIXES) and (why := misnamed(file)):
                yield LeftOut(name_in(file, self.source), f"{MISNAMED}: {why.rstrip('.')}")
            elif file.suffix.lower() in _PACKED:
                self._packed = self._packed or file.name
                yield LeftOut(name_in(file, self.source), f"{ARCHIVE}; unpack it, and give what was in it")
        inner = [(here / name).relative_to(self.source) for name in inside]
        self._places.will_be_folders(inner)
        folders = {_spelled(place) for place in inner}
        volumes = [file for file in files if suffix_of(file) in READABLE_SUFFIXES]
        wishes = Counter(_spelled(file.relative_to(self.source).with_name(stem_of(file))) for file in volumes)
        for file in volumes:
            if why := why_result(file, self.source, self.verb):
                yield LeftOut(name_in(file, self.source), why)
                continue
            if found := labels.label_map_in(file, file.relative_to(self.source).as_posix()):
                yield LeftOut(name_in(file, self.source), f"{found}, no CT: --labels takes such along")
                continue
            place = file.relative_to(self.source)
            short = place.with_name(stem_of(file))
            # Of names that are equal without their suffixes all keep these: 'a.nii' beside 'a.mha'.
            places = (short, place) if wishes[_spelled(short)] == 1 else (place,)
            item = Item(name_in(file, self.source), (file,), places)
            if _spelled(short) in folders:
                self._places.wait(item)  # that folder may be a series, whose result has the same name
            else:
                yield item

    def _projections(self) -> Iterator[Entry]:
        """The projection files, and the folders whose first DICOM file has projections."""
        for here, inside, files, problem in folders_of(self.source, *self._no_inputs()):
            self.folders += 1
            check(self.cancel)
            if problem:
                yield self._not_readable(here, problem)
            inner = [(here / name).relative_to(self.source) for name in inside]
            self._places.will_be_folders(inner)
            folders = {_spelled(place) for place in inner}
            for file in files:
                if file.name.lower().endswith(PROJECTION_SUFFIX):
                    place = file.relative_to(self.source)
                    short = place.with_name(file.name[: -len(PROJECTION_SUFFIX)] or file.name)
                    item = Item(name_in(file, self.source), (file,), (short, place))
                    if _spelled(short) in folders:
                        self._places.wait(item)
                    else:
                        yield item
            views = [file for file in files if not file.name.lower().endswith(PROJECTION_SUFFIX)]
            if is_ctpd(views):
                yield Item(name_in(here, self.source), tuple(views), (place_of(here, self.source),))
        yield from self._places.later()

    def _images(self) -> Iterator[Entry]:
        """The folders, or names in a folder, with an image at each energy."""
        assert self.pairs is not None
        for here, _, files, problem in folders_of(self.source, *self._no_inputs()):
            self.folders += 1
            check(self.cancel)
            self._empty = self._empty and not files
            if problem:
                yield self._not_readable(here, problem)
                continue
            for name, paths, lacking in self.pairs.found(here, files):
                place = place_of(here, self.source) / name if name else place_of(here, self.source)
                shown = name_in(here / name if name else here, self.source)
                if lacking.startswith(ONE_ENERGY):
                    yield LeftOut(shown, lacking)
                elif lacking:
                    yield Item(shown, (), (place,), lacking)
                else:
                    yield Item(shown, (), (place,), beside=tuple(paths))

    def _no_inputs(self) -> Iterator[Path]:
        """Folders that may lie in the input folder, and hold no cases."""
        partners = self.partners
        for path in (self.target, partners.labels, partners.after, partners.reference):
            if path is not None:
                yield path

    def _not_readable(self, here: Path, reason: str) -> Item:
        place = place_of(here, self.source)
        return Item(name_in(here, self.source), (), (place,), cannot_read(here, reason))

    def _why_no_case(self) -> str:
        source = self.source
        if self.pairs is not None:
            return self.pairs.why_none(source, self._left_out)
        if self.kind == PROJECTIONS:
            return (
                f"There are no projections in '{source}': no {PROJECTION_SUFFIX} file and no DICOM-CT-PD "
                "files; give a folder that holds some."
            )
        reasons = [f"'{name}' ({reason})" for name, reason in sorted(self._left_out.items())]
        listing = "; ".join(reasons[:_MOST_LISTED])
        if len(reasons) > _MOST_LISTED:
            listing += f"; and {len(reasons) - _MOST_LISTED} more"
        if self.choice and self._dicom:
            return f"There is no CT series in '{source}' as it was asked for: {listing}; choose another."
        if self.choice:
            return f"Series and images can be chosen in DICOM folders only, and '{source}' holds none."
        if self._empty:
            return f"There is no file in '{source}'; give the folder that holds the CTs."
        if self._packed:
            return (
                f"There is no CT in '{source}' but packed files such as '{self._packed}'; unpack them and "
                "give the folder with what was in them."
            )
        if self._left_out and all(why.startswith(AGAIN) for why in self._left_out.values()):
            return (
                f"'{source}' holds what an earlier batch has {self.verb}d, which is not {self.verb}d again; "
                "give the folder that it was made of, or another --verb."
            )
        known = f"no {', '.join(READABLE_SUFFIXES)} file and no DICOM series"
        return f"There is no CT in '{source}': {listing or known}; give a folder that holds CTs."


class _Places:
    """Where results go, of which no two are the same file, however the file system spells names.

    In a temporary file of SQLite, since there may be a million of them.
    """

    def __init__(self) -> None:
        self._base = sqlite3.connect("", check_same_thread=False)
        self._base.executescript(
            "CREATE TABLE taken (file TEXT PRIMARY KEY);"
            "CREATE TABLE folder (file TEXT PRIMARY KEY);"
            "CREATE TABLE name (name TEXT PRIMARY KEY, key TEXT);"
            "CREATE INDEX name_key ON name (key);"
            "CREATE TABLE later (name BLOB, file BLOB, places BLOB);"
        )

    def will_be_folders(self, places: Sequence[Path]) -> None:
        """What has to be a folder cannot be a result."""
        alike = [(one,) for one in map(_spelled, places) if one.endswith(_ENDINGS)]
        self._base.executemany("INSERT OR IGNORE INTO folder VALUES (?)", alike)

    def wait(self, item: Item) -> None:
        """Keep the item of one file until all others have their places."""
        places = "\0".join(place.as_posix() for place in item.places)
        row = (item.name, os.fsencode(item.files[0]), os.fsencode(places))
        self._base.execute("INSERT INTO later VALUES (?, ?, ?)", row)

    def later(self) -> Iterator[Item]:
        """The items that waited."""
        for name, file, places in self._base.execute("SELECT * FROM later ORDER BY rowid"):
            kept = tuple(Path(place) for place in os.fsdecode(places).split("\0"))
            yield Item(name, (Path(os.fsdecode(file)),), kept)

    def give(self, item: Item) -> tuple[Path, str]:
        """A place and a name for an item that no other has."""
        base = item.places[-1]
        more = (base.with_name(f"{base.name}-{number}") for number in itertools.count(2))
        place = next(one for one in itertools.chain(item.places, more) if self._free(one))
        self._base.executemany(
            "INSERT OR IGNORE INTO taken VALUES (?)", [(_spelled(Path(f"{place}{end}")),) for end in _ENDINGS]
        )
        # A folder and a series in folders below it may have one name, and so may files, as what is no UTF-8
        # in a name is shown as question marks.
        shown = f"{item.name} ({as_text(place.name)})"
        names = itertools.chain((item.name, shown), (f"{shown} {number}" for number in itertools.count(2)))
        query = "SELECT 1 FROM name WHERE name = ?"
        name = next(one for one in names if self._base.execute(query, (one,)).fetchone() is None)
        self._base.execute("INSERT INTO name VALUES (?, ?)", (name, item.key))
        return place, name

    def _free(self, place: Path) -> bool:
        files = [_spelled(Path(f"{place}{end}")) for end in _ENDINGS]
        query = "SELECT 1 FROM taken WHERE file IN (?, ?) UNION ALL SELECT 1 FROM folder WHERE file IN (?, ?)"
        return self._base.execute(query, (*files, *files)).fetchone() is None

    def taken(self, place: Path) -> bool:
        """Whether a result has this place."""
        query = "SELECT 1 FROM taken WHERE file = ?"
        return self._base.execute(query, (_spelled(Path(f"{place}.nii.gz")),)).fetchone() is not None

    def name_of(self, key: str) -> str:
        """The name of the case of an item."""
        row = self._base.execute("SELECT name FROM name WHERE key = ?", (key,)).fetchone()
        return str(row[0])


def _check_folders(source: Path, target: Path) -> None:
    if not source.exists():
        raise InputError(f"There is no folder '{source}'; check the path.")
    if not source.is_dir():
        raise InputError(
            f"'{source}' is a file; give the folder that holds the CTs (one CT: 'ctenhance enhance')."
        )
    if target.resolve() == source.resolve():
        raise InputError(
            f"The results cannot go into the input folder '{source}' itself; name another folder."
        )


def _spelled(path: Path) -> str:
    # Some file systems take letters of either case, and accents in either form, for the same.
    spelled = unicodedata.normalize("NFC", path.as_posix()).casefold()
    return spelled.encode("utf-8", "backslashreplace").decode("utf-8")


@functools.lru_cache(maxsize=1)
def _outside(source: Path, target: Path) -> bool:
    return source.resolve() in target.resolve().parents  # a folder of its own inside is not searched


def _check_output(case: Case, source: Path, target: Path) -> None:
    if not _outside(source, target) and source.resolve() in case.output.resolve().parents:
        raise InputError(
            f"The result of '{case.name}' would go into the input folder ('{case.output}'); name another "
            "folder for the results."
        )
