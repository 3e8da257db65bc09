"""Which CTs a folder holds, and where the results of each go: the cases of `ctenhance batch`."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os.path import exists, isfile, realpath
from pathlib import Path

from ctenhance.batch.case import Case
from ctenhance.batch.labels import KIND
from ctenhance.commands.options import Choice
from ctenhance.commands.support import Run
from ctenhance.core.volume import READABLE_SUFFIXES
from ctenhance.files.ctpd.reading import is_ctpd
from ctenhance.files.dicom.choice import Conditions
from ctenhance.files.dicom.search import FoundSeries, bystanders, join, label, numbered, search
from ctenhance.files.finished import Finished
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import stem_of, suffix_of
from ctenhance.runtime.progress import check

_PACKED = (".zip", ".tar", ".tgz", ".7z", ".rar", ".gz", ".bz2", ".xz", ".zst", ".iso")
_MOST_LISTED = 6
PROJECTION_SUFFIX = ".ctproj.h5"


@dataclass
class Found:
    """The cases of a folder, in the order of their names, and what was left out, with the reason."""

    cases: list[Case] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Item:
    """A CT that was found; `places` are where its result may go inside the output folder, best first."""

    name: str
    files: tuple[Path, ...]
    places: tuple[Path, ...]
    problem: str = ""
    is_dicom: bool = False


def find_cases(
    source: Path,
    target: Path,
    choice: Choice | None = None,
    run: Run | None = None,
    projections: bool = False,
) -> Found:
    """Return every volume file and every DICOM series, at any depth; `target` keeps the folders of `source`.

    With `projections` every projection file and every folder of DICOM-CT-PD files, in place of these.

    `choice` leaves of the DICOM series only those with this number or UID and with images of this kind. A
    folder with several series gets a folder for their results, which are named by the series' numbers: names
    of files and descriptions may name a patient.

    Raises InputError when `source` is no folder or holds no CT, or none that was chosen, and when results
    would go into it among the inputs. `run` shows the progress of the search and can cancel it.
    """
    _check_folders(source, target)
    choice = choice or Choice()
    if projections:
        return _found_projections(source, target, choice, run)
    conditions = Conditions.of(choice.where)
    found, items = Found(), []
    parts: list[FoundSeries] = []
    empty = True
    packed: list[Path] = []
    folders = list(_folders(source, target))
    for number, (here, files, problem) in enumerate(folders):
        if run is not None:
            run.progress("search", number, len(folders))
            check(run.cancel)
        empty = empty and not files
        others = [file for file in files if suffix_of(file) not in READABLE_SUFFIXES]
        packed += [file for file in others if file.suffix.lower() in _PACKED]
        volumes = [file for file in files if suffix_of(file) in READABLE_SUFFIXES]
        for file in volumes:
            if Finished(file).report.get("output"):
                found.left_out[_name(file, source)] = "a result of an earlier batch"
            else:
                inside = file.relative_to(source)
                items.append(_Item(_name(file, source), (file,), (inside.with_name(stem_of(file)), inside)))
        try:
            if problem:
                raise InputError(problem)
            here_found, why_none = search(others, conditions)
        except InputError as error:
            sentence = _cannot_read(here, str(error))
            items.append(_Item(_name(here, source), (), (_inside(here, source),), sentence))
            continue
        parts += here_found
        if why_none:
            found.left_out[_name(here, source)] = why_none.partition(";")[0].rstrip(".")
    if run is not None:
        run.progress("search", len(folders), len(folders))
    chosen = list(_series_items(join(parts), source, choice, found))
    items += chosen
    if not items or (choice and not chosen):
        raise InputError(_why_no_case(source, choice, bool(parts), found, packed, empty))
    items.sort(key=lambda item: item.name)
    count = Counter(item.name for item in items)
    for item, place in zip(items, _distinct_places(items), strict=True):
        # A folder and a series in folders below it may have one name.
        name = item.name if count[item.name] == 1 else f"{item.name} ({place.name})"
        case = Case(name, item.files, target / f"{place}.nii.gz", item.problem)
        if item.is_dicom:
            case = replace(case, where=choice.where, slices=conditions.note() or case.slices)
        found.cases.append(case)
    _check_outputs(found.cases, source, target)
    return found


def _found_projections(source: Path, target: Path, choice: Choice, run: Run | None) -> Found:
    """The projection files, and the folders whose first DICOM file has projections."""
    if choice:
        raise InputError("Series and images can be chosen among CTs only; leave the choice out.")
    items: list[_Item] = []
    folders = list(_folders(source, target))
    for number, (here, files, problem) in enumerate(folders):
        if run is not None:
            run.progress("search", number, len(folders))
            check(run.cancel)
        if problem:
            sentence = _cannot_read(here, problem)
            items.append(_Item(_name(here, source), (), (_inside(here, source),), sentence))
        for file in files:
            if file.name.lower().endswith(PROJECTION_SUFFIX):
                inside = file.relative_to(source)
                stem = file.name[: -len(PROJECTION_SUFFIX)] or file.name
                items.append(_Item(_name(file, source), (file,), (inside.with_name(stem), inside)))
        views = [file for file in files if not file.name.lower().endswith(PROJECTION_SUFFIX)]
        if is_ctpd(views):
            items.append(_Item(_name(here, source), tuple(views), (_inside(here, source),)))
    if not items:
        raise InputError(
            f"There are no projections in '{source}': no {PROJECTION_SUFFIX} file and no DICOM-CT-PD files; "
            "give a folder that holds some."
        )
    items.sort(key=lambda item: item.name)
    cases = [
        Case(item.name, item.files, target / f"{place}.nii.gz", item.problem)
        for item, place in zip(items, _distinct_places(items), strict=True)
    ]
    _check_outputs(cases, source, target)
    return Found(cases)


def with_partners(
    found: Found,
    target: Path,
    labels: Mapping[str, Path] | None,
    after: Path | None,
    reference: Path | None,
) -> Found:
    """Return the cases with the files that go with them: label maps by their places in the output folder, and
    the volumes of a comparison by their names in the folders `after` and `reference`.

    A case without its volume there has a problem; one without a label map goes without.
    Raises InputError for folders that are none.
    """
    folders = {name: path for name, path in (("after", after), ("reference", reference)) if path is not None}
    for path in folders.values():
        if not path.is_dir():
            raise InputError(f"There is no folder '{path}'; check the path.")
    cases = []
    for case in found.cases:
        place = case.output.relative_to(target)
        place = place.with_name(stem_of(place))
        beside: dict[str, Path] = {}
        problem = case.problem
        label = None if labels is None else labels.get(place.as_posix())
        if label is not None:
            out = target / KIND / place.with_name(f"{place.name}{suffix_of(label)}")
            beside |= {KIND: label, f"{KIND} out": out}
        for name, folder in folders.items():
            partner = _partner(folder, place)
            if partner is not None:
                beside[name] = partner
            else:
                problem = problem or f"There is no '{place}' in '{folder}'; give the folder with its partner."
        cases.append(replace(case, beside=beside, problem=problem))
    found.cases = cases
    return found


def _partner(folder: Path, place: Path) -> Path | None:
    """The one volume file, or DICOM folder, at a place."""
    for suffix in READABLE_SUFFIXES:
        file = folder / place.with_name(f"{place.name}{suffix}")
        if file.is_file():
            return file
    return folder / place if (folder / place).is_dir() else None


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


def _folders(source: Path, target: Path) -> Iterator[tuple[Path, list[Path], str]]:
    """Yield each folder with its files, both sorted, and why it cannot be looked into, or ''.

    Links are followed, as archives of links are usual, but no folder is visited twice. Hidden ones are
    unfinished files and other programs' own; an output folder inside is no input.
    """
    unreadable: dict[str, str] = {}

    def note(error: OSError) -> None:
        unreadable[os.fspath(error.filename)] = (
            f"it cannot be opened ({error.strerror}); check its permissions."
        )

    visited = {realpath(target), *(os.fspath(parent) for parent in source.resolve().parents)}
    for directory, folders, names in os.walk(source, followlinks=True, onerror=note):
        here = Path(directory)
        visited.add(realpath(here))
        kept = []
        for name in sorted(folders):
            place = realpath(here / name)
            if name[0] != "." and place not in visited:
                visited.add(place)
                kept.append(name)
        folders[:] = kept
        visible = [here / name for name in sorted(names) if name[0] != "."]
        # A broken link counts as a missing file; reading a pipe would never end.
        yield here, [path for path in visible if isfile(path) or not exists(path)], ""
    for directory, problem in sorted(unreadable.items()):
        yield Path(directory), [], problem


def _series_items(
    series: Sequence[FoundSeries], source: Path, choice: Choice, found: Found
) -> Iterator[_Item]:
    aside = bystanders(series)
    homes: dict[Path, list[FoundSeries]] = {}
    for one in series:
        if one in aside:
            found.left_out[_name(one.home, source)] = "a scout or pictures beside the CT of the same study"
        else:
            homes.setdefault(one.home, []).append(one)
    for home, members in homes.items():
        inside = _inside(home, source)
        for number, one in numbered(members).items():
            name, place = _name(home, source), inside
            if len(members) > 1:
                name, place = f"{name} (series {number})", inside / f"series-{number}"
            if choice.series is not None and choice.series.strip() not in (str(number), one.uid):
                found.left_out[name] = f"{label(number, one)}, not asked for"
            elif one.excluded:
                found.left_out[name] = one.excluded.rstrip(".")
            else:
                problem = _cannot_read(home, one.problem) if one.problem else ""
                yield _Item(name, one.files, (place,), problem, is_dicom=True)


def _cannot_read(folder: Path, reason: str) -> str:
    return f"Cannot read '{folder}': {reason[0].lower()}{reason[1:]}"


def _why_no_case(
    source: Path, choice: Choice, dicom: bool, found: Found, packed: Sequence[Path], empty: bool
) -> str:
    reasons = [f"'{name}' ({reason})" for name, reason in sorted(found.left_out.items())]
    listing = "; ".join(reasons[:_MOST_LISTED])
    if len(reasons) > _MOST_LISTED:
        listing += f"; and {len(reasons) - _MOST_LISTED} more"
    if choice and dicom:
        return f"There is no CT series in '{source}' as it was asked for: {listing}; choose another."
    if choice:
        return f"Series and images can be chosen in DICOM folders only, and '{source}' holds none."
    if empty:
        return f"There is no file in '{source}'; give the folder that holds the CTs."
    if packed:
        return (
            f"There is no CT in '{source}' but packed files such as '{packed[0].name}'; unpack them and give "
            "the folder with what was in them."
        )
    known = f"no {', '.join(READABLE_SUFFIXES)} file and no DICOM series"
    return f"There is no CT in '{source}': {listing or known}; give a folder that holds CTs."


def _name(path: Path, source: Path) -> str:
    """The path inside the input folder, as it can be written anywhere."""
    inside = path.relative_to(source).as_posix() if path != source else path.resolve().name
    return inside.encode("utf-8", "replace").decode("utf-8")


def _inside(folder: Path, source: Path) -> Path:
    # The input folder may be itself a series.
    return folder.relative_to(source) if folder != source else Path(folder.resolve().name or "ct")


def _distinct_places(items: Sequence[_Item]) -> Iterator[Path]:
    """Yield a place for each, of which no two are the same file, however the file system spells names.

    Of names that are equal without their suffixes all keep these: 'a.nii' beside 'a.mha'.
    """
    wishes = Counter(_spelled(item.places[0]) for item in items)
    # What has to be a folder cannot be a result.
    folders = {_spelled(parent) for item in items for place in item.places for parent in place.parents}
    taken: set[str] = set()
    for item in items:
        places = list(
            item.places if wishes[_spelled(item.places[0])] == 1 else item.places[1:] or item.places
        )
        base = item.places[-1]
        places += [base.with_name(f"{base.name}-{number}") for number in range(2, len(items) + 3)]
        for place in places:
            names = {_spelled(Path(f"{place}{ending}")) for ending in (".nii.gz", ".report.json")}
            if not names & (taken | folders):
                taken |= names
                yield place
                break


def _spelled(path: Path) -> str:
    # Some file systems take letters of either case, and accents in either form, for the same.
    return unicodedata.normalize("NFC", path.as_posix()).casefold()


def _check_outputs(cases: Sequence[Case], source: Path, target: Path) -> None:
    inner, outer = source.resolve(), target.resolve()
    if inner in outer.parents:  # a folder of its own inside the inputs is not searched
        return
    for case in cases:
        if inner in case.output.resolve().parents:
            raise InputError(
                f"The result of '{case.name}' would go into the input folder ('{case.output}'); name another "
                "folder for the results."
            )
