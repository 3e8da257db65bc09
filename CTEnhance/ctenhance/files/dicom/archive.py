"""What is in an archive of many DICOM studies, series by series, and what can be done with each.

Headers alone are read. An archive is gone through in parts, so that its size does not matter: what lies below
one of its own folders is told when that has been read, and then forgotten but for the UIDs.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pydicom
from pydicom.uid import ParametricMapStorage

from ctenhance.core.volume import READABLE_SUFFIXES
from ctenhance.files.dicom.choice import RESAMPLE_TILT, Conditions, Frame, grouped, shown, values_of
from ctenhance.files.dicom.energies import ATTRIBUTES as ENERGY_ATTRIBUTES
from ctenhance.files.dicom.energies import scan_header
from ctenhance.files.dicom.grid import Grid
from ctenhance.files.dicom.header import DAMAGE, DicomFile, number, read_file, text
from ctenhance.files.dicom.kinds import ATTRIBUTES as KIND_ATTRIBUTES
from ctenhance.files.dicom.kinds import kinds, no_pixels, slices_of
from ctenhance.files.dicom.lone import may_be_scouts
from ctenhance.files.dicom.maps import mg_per_ml_of
from ctenhance.files.dicom.marks import ATTRIBUTES as SCAN_ATTRIBUTES
from ctenhance.files.dicom.parted import SERIES_UID, by_series
from ctenhance.files.dicom.reading import (
    DICOMDIR,
    files_below,
    home_of,
    is_index,
    series_numbers,
)
from ctenhance.files.dicom.remarks import note_of_projection
from ctenhance.files.dicom.slices import HOUNSFIELD, Slice
from ctenhance.files.dicom.stack import laid_out, read_stack
from ctenhance.files.dicom.units import measure_of
from ctenhance.files.names import gaps, is_archive, misnamed
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import suffix_of
from ctenhance.runtime.large import Ahead

#: Headers held at once; an archive whose parts have more is told in smaller ones.
MOST_HEADERS = 20_000
_OF_PEOPLE = ("PatientName", "PatientID", "StudyDate", "StudyDescription", "AccessionNumber")
_FOCAL_CENTER = 0x70311002  # of DICOM-CT-PD: where the focal spot of a view lies
_OF_A_CT = ("enhance", "degrade", "compare", "project", "dicom")
_SEVERAL = "/"
_NOT_THERE = "the DICOMDIR lists it, but it is not there."
_PACKED = (".zip", ".7z", ".rar", ".tar", ".gz", ".tgz", ".xz", ".bz2", ".zst", ".iso")


@dataclass
class ListedSeries:
    """One series. `uses`: the verbs that take it; `why_not`: why no verb does, or why only some do, empty
    where there is nothing to say; `choose`: the options that choose it in `folder`, which is relative to the
    archive. `people`: names and dates, only where they are asked for."""

    study: int
    study_instance_uid: str
    series_instance_uid: str
    series_number: int | None
    modality: str
    description: str
    kernel: str
    thickness_mm: float | None
    spacing_mm: float | None
    energies: list[str]
    slices: int
    files: int
    rows: int | None
    columns: int | None
    folder: str
    choose: str
    uses: list[str]
    why_not: str
    notes: list[str]
    people: dict[str, str] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """As a dictionary of JSON types, without `people` where nobody asked for them."""
        found = asdict(self)
        return found if self.people else {name: value for name, value in found.items() if name != "people"}


@dataclass
class Passed:
    """A file that is of no series: `why` it was passed over."""

    file: str
    why: str


@dataclass
class Counts:
    """What an archive held in all."""

    files: int = 0
    studies: int = 0
    series: int = 0
    left_out: int = 0
    not_dicom: int = 0
    unreadable: int = 0


class Archive:
    """A folder with many studies, or its DICOMDIR; iterate over it once for `ListedSeries` and `Passed`.

    `conditions` and `series` leave only the series that have such images, with that number or UID; `looked`
    is told how many files there have been, at each. Raises InputError for what is no folder."""

    def __init__(
        self,
        path: Path,
        conditions: Conditions,
        series: str | None = None,
        people: bool = False,
        looked: Callable[[int], None] = lambda files: None,
    ) -> None:
        self.index = path if path.is_file() else None
        self.root = path.parent if path.is_file() else path
        self.counts = Counts()
        self._conditions, self._series, self._people, self._looked = conditions, series, people, looked
        self._keywords: tuple[str | int, ...] = (
            *KIND_ATTRIBUTES, *SCAN_ATTRIBUTES, *ENERGY_ATTRIBUTES, *conditions.keywords, *_OF_PEOPLE,
            _FOCAL_CENTER,
        )  # fmt: skip
        self._studies: dict[str, int] = {}
        self._seen_before: set[tuple[str, str]] = set()
        # Of what an index in the folder lists in vain, by UIDs; these of the files beside an index.
        self._lost: dict[str, str] = {}
        self._beside_indices: set[str] = set()
        # Of the part that is looked at: why a folder with this file cannot be read, or this series (by its
        # UID) in it, and other files.
        self._damaged: dict[Path, str] = {}
        self._cut_off: dict[str, str] = {}
        self._others: list[Path] = []
        if self.index is not None and not is_index(self.index):
            raise InputError(f"'{path}' is a file: give a folder, or the DICOMDIR of a disc.")
        if not self.root.is_dir():
            raise InputError(f"There is no folder '{path}'; check the path.")

    def __iter__(self) -> Iterator[ListedSeries | Passed]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as in `read_dicom`
            yield from self._missing()
            for rank, part in enumerate(self._parts()):
                held: list[DicomFile] = []
                self._damaged, self._cut_off, self._others = {}, {}, []
                for path in part:
                    found = self._read(path)
                    if isinstance(found, Passed):
                        yield found
                    elif found is not None:
                        held.append(found)
                        uid = text(found.header.get("SOPInstanceUID"))
                        self._lost.pop(uid, None)
                        if rank == 0:
                            self._beside_indices.add(uid)
                    if len(held) >= MOST_HEADERS:
                        yield from self._listed(held)
                        held = []
                for path, why in gaps([file.path for file in held], self._others):
                    self.counts.not_dicom -= 1
                    yield self._passed(path, why)
                yield from self._listed(held)
            for name in self._lost.values():
                self.counts.unreadable += 1
                yield Passed(name, _NOT_THERE)
        self.counts.studies = len(self._studies)

    def _parts(self) -> Iterator[Iterator[Path]]:
        """The files of the folder itself, and then of each of its own folders."""
        own: list[Path] = []
        folders: list[Path] = []
        with os.scandir(self.root) as entries:
            for entry in sorted(entries, key=lambda one: one.name):
                (folders if entry.is_dir() else own).append(Path(entry.path))
        yield iter([path for path in own if path.is_file() or path.is_symlink()])
        places: dict[str, Path] = {}
        for folder in folders:
            places.setdefault(os.path.realpath(folder), folder)  # several links may lead to one
        for folder in places.values():
            yield files_below(folder)

    def _read(self, path: Path) -> DicomFile | Passed | None:
        self.counts.files += 1
        self._looked(self.counts.files)
        name = os.path.relpath(path, self.root)
        try:
            file = read_file(path, self._keywords)
        except InputError as error:
            return self._passed(path, str(error))
        if file is None:
            self.counts.not_dicom += 1
            self._others.append(path)
            packed = path.suffix.lower() in _PACKED and suffix_of(path) not in READABLE_SUFFIXES
            packed = packed and is_archive(path)
            said = misnamed(path) or "it is an archive; unpack it first."
            return Passed(name, said) if packed else None
        if file.cut_off:
            self.counts.unreadable += 1
            why = "its pixels are cut off, or were left out; copy it again from its source."
            self._cut_off[_uid(file, "Series")] = f"'{path.name}': {why}"
            return Passed(name, why)
        if file.header.SOPClassUID != DICOMDIR:
            if file.header.Modality == "CT" and not (file.header.get("Rows") and file.header.get("Columns")):
                self._damaged[path] = no_pixels(path)
            return file
        if self.index is None:
            with contextlib.suppress(*DAMAGE):  # an index that is not asked for is not needed
                for parts, uid in _listed_in(path):
                    if uid not in self._beside_indices and not path.parent.joinpath(*parts).exists():
                        place = "/".join((*Path(name).parts[:-1], *parts))
                        self._lost[uid or place] = place
        return None

    def _passed(self, path: Path, why: str) -> Passed:
        """A file that keeps its folder from being read."""
        self.counts.unreadable += 1
        self._damaged[path] = why
        return Passed(os.path.relpath(path, self.root), why)

    def _missing(self) -> Iterator[Passed]:
        """What the index lists and is not there, or lies outside of the folder."""
        if self.index is None:
            return
        root = self.root.resolve()
        try:
            for parts, uid in _listed_in(self.index):
                target = root.joinpath(*parts).resolve()
                if not target.is_relative_to(root):
                    yield Passed("/".join(parts), "the DICOMDIR lists it outside of its own folder.")
                elif not target.exists():  # until it is found under another name, as in lower case
                    self._lost[uid or "/".join(parts)] = "/".join(parts)
        except DAMAGE:
            yield Passed(self.index.name, "the DICOMDIR is damaged; what it lists and is lost is not told.")

    def _listed(self, files: Sequence[DicomFile]) -> Iterator[ListedSeries]:
        members: dict[tuple[str, str], list[DicomFile]] = {}
        for uid, images in by_series(files, self._conditions.ignores(SERIES_UID)).items():
            is_parted = any(_uid(file, "Series") != uid for file in images)
            for file in images:
                members.setdefault((_uid(images[0] if is_parted else file, "Study"), uid), []).append(file)
        chosen = {key: found for key, found in members.items() if self._is_asked_for(found)}
        self.counts.left_out += len(members) - len(chosen)
        numbers = _numbers(members)
        energies: dict[str, set[str]] = {}
        for (study, _), images in members.items():
            energies.setdefault(study, set()).update(_energies(_frames(images)))
        for (study, series), images in sorted(chosen.items(), key=lambda one: _order(*one)):
            self._studies.setdefault(study, len(self._studies) + 1)
            listed = self._series_of(study, series, images, numbers.get((study, series)))
            if _OF_A_CT[0] in listed.uses and len(listed.energies) == 1 < len(energies[study]):
                listed.uses.append("decompose --image")
            if self._series is not None and self._series not in (series, str(listed.series_number)):
                self.counts.left_out += 1
                continue
            if series and (study, series) in self._seen_before:
                listed.notes.append("has the UID of a series listed above: a copy, or another part of it")
            self._seen_before.add((study, series))
            self.counts.series += 1
            yield listed

    def _is_asked_for(self, images: Sequence[DicomFile]) -> bool:
        if not self._conditions.asked:
            return True
        try:
            return bool(self._conditions.files(images))
        except InputError:
            return False

    def _series_of(
        self, study: str, uid: str, images: Sequence[DicomFile], number_to_choose: int | None
    ) -> ListedSeries:
        first = images[0]
        given = number(first.header.get("SeriesNumber"))
        frames = _frames(images)
        listed = ListedSeries(
            study=self._studies[study],
            study_instance_uid=study,
            series_instance_uid=_uid(first, "Series"),
            series_number=None if given is None else int(given),
            modality=first.header.Modality or text(first.header.SOPClassUID),
            description=text(first.header.get("SeriesDescription")),
            kernel=_of_all(frames, "ConvolutionKernel"),
            thickness_mm=number(_of_all(frames, "SliceThickness")),
            spacing_mm=None,
            energies=_energies(frames),
            slices=len(frames),
            files=len(images),
            rows=_whole(first.header.get("Rows")),
            columns=_whole(first.header.get("Columns")),
            folder=os.path.relpath(home_of(image.path for image in images), self.root),
            choose="" if number_to_choose is None else f"--series {number_to_choose}",
            uses=[],
            why_not="",
            notes=[],
        )
        if self._people:
            listed.people = {name: text(first.header.get(name)) for name in _OF_PEOPLE}
        self._judge(listed, images)
        return listed

    def _judge(self, listed: ListedSeries, images: Sequence[DicomFile]) -> None:
        """Say what can be done with the series, by what reading it would refuse."""
        home = home_of(image.path for image in images)
        damaged = next((why for path, why in self._damaged.items() if home in path.parents), "")
        if damaged := damaged or self._cut_off.get(listed.series_instance_uid, ""):
            listed.why_not = damaged
            return
        if _FOCAL_CENTER in images[0].header:
            listed.uses = ["reconstruct", "decompose"]
            return
        if images[0].header.SOPClassUID == ParametricMapStorage:
            unit = measure_of(images[0], 0).unit or "of an unknown unit"
            listed.uses = ["compare-maps"] if mg_per_ml_of(unit) else []
            listed.why_not = f"it is a parametric map, whose values are {unit}, not Hounsfield units"
            return
        try:
            found, others = slices_of(images)
            kept = self._conditions.files([file for members in found.values() for file in members])
            placed, grid, unit, repeated = self._laid_out(kept, listed)
        except InputError as error:
            listed.why_not = str(error)
            return
        listed.slices, listed.spacing_mm = len(placed), round(grid.pitch, 6)
        listed.notes += grid.notes
        if others:
            listed.notes.append(f"left out, as no slices of this CT: {kinds(others)}")
        if repeated:
            listed.notes.append(f"repeated slices left out: {repeated}")
        if unit != HOUNSFIELD:
            listed.uses = ["compare-maps", "view"]
            listed.why_not = f"its values are {unit}, not Hounsfield units"
            return
        try:
            # Whether one or two images are slices at all only their values tell.
            some = read_stack(kept, self._conditions, True, Ahead(0)) if may_be_scouts(placed) else None
        except InputError as error:
            listed.why_not = str(error)
            return
        more = note_of_projection(placed[0].file, grid.pitch) if some is None else some.notes
        listed.notes += [note for note in more if note not in listed.notes]
        listed.uses = list(_OF_A_CT)

    def _laid_out(
        self, files: Sequence[DicomFile], listed: ListedSeries
    ) -> tuple[Sequence[Slice], Grid, str, int]:
        """As `laid_out`; of slices that a tilted gantry alone keeps from being read say how they are."""
        try:
            return laid_out(files, self._conditions, check_hu=False)
        except InputError as error:
            keyword, resample = RESAMPLE_TILT
            straight = Conditions({**self._conditions.asked, keyword: resample})
            try:
                found = laid_out(files, straight, check_hu=False)
            except InputError:
                raise error from None
            listed.choose = f"{listed.choose} --resample-tilt".strip()
            listed.why_not = str(error)
            return found


def _frames(images: Sequence[DicomFile]) -> list[Frame]:
    return [(file, frame) for file in images for frame in range(len(file.frames))]


def _uid(file: DicomFile, what: str) -> str:
    return text(file.header.get(f"{what}InstanceUID"))


def _whole(value: Any) -> int | None:
    found = number(value)
    return None if found is None else int(found)


def _of_all(frames: Sequence[Frame], keyword: str) -> str:
    """What the frames say, several values with / between; '' where they say nothing."""
    groups = grouped([values_of(*frame, keyword) for frame in frames])
    return _SEVERAL.join(filter(None, (shown(values) for values, _ in groups)))


def _energies(frames: Sequence[Frame]) -> list[str]:
    """The energies as images are named (40, 80kV): the tube's voltage where nothing else is said."""
    headers = {scan_header(*frame).energy for frame in frames}
    return sorted(filter(None, headers), key=lambda one: (len(one), one))


def _order(key: tuple[str, str], images: Sequence[DicomFile]) -> tuple[Any, ...]:
    return key[0], number(images[0].header.get("SeriesNumber")) or 0.0, key[1]


def _listed_in(index: Path) -> Iterator[tuple[list[str], str]]:
    """Yield the parts of the path of each file that a DICOMDIR lists, and its UID."""
    for item in pydicom.dcmread(index).get("DirectoryRecordSequence") or ():
        if value := item.get("ReferencedFileID"):
            parts = [value] if isinstance(value, str) else [str(one) for one in value]
            yield parts, text(item.get("ReferencedSOPInstanceUIDInFile"))


def _numbers(series: Mapping[tuple[str, str], Sequence[DicomFile]]) -> dict[tuple[str, str], int]:
    """The numbers by which `--series` chooses each in its folder, of those that need to be chosen."""
    homes = {key: home_of(image.path for image in images) for key, images in series.items()}
    below: dict[Path, list[tuple[str, str]]] = {}
    for home in set(homes.values()):
        below[home] = [key for key, other in homes.items() if other == home or home in other.parents]
    found: dict[tuple[str, str], int] = {}
    for key, home in homes.items():
        if len(below[home]) == 1:
            continue
        try:
            meant, _ = slices_of([file for one in below[home] for file in series[one]])
        except InputError:
            continue
        numbers = series_numbers({uid: images[0] for uid, images in meant.items()})
        if key[1] in numbers and len(numbers) > 1:
            found[key] = numbers[key[1]]
    return found
