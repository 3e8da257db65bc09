"""A study in one line: two folders of images, matched by file name."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctenhance.core.volume import READABLE_SUFFIXES
from ctenhance.files.names import misnamed
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import stem_of, suffix_of
from ctenhance.runtime.tables import rows_of
from ctenhance.runtime.words import counted
from ctenhance.study.conduct import Conduct
from ctenhance.study.design import Case, Design, Lesion
from ctenhance.study.fields import Fields
from ctenhance.study.questions import DETECTION, preset
from ctenhance.study.truth import require_apart

BEFORE, AFTER = "before", "after"
# In a folder of results: what `ctenhance batch` tells of itself.
_OF_A_BATCH = "ctenhance-batch"
_TRUTH_COLUMNS = ("case", "x", "y", "z", "radius_mm")


@dataclass(frozen=True)
class Matched:
    """Images of two folders: those of one name, and the names that only one of them has."""

    pairs: dict[str, tuple[Path, Path]]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]

    def sentences(self) -> list[str]:
        """Return what the owner must know of images that were left out."""
        found = ((BEFORE, self.only_before), (AFTER, self.only_after))
        return [
            f"Left out, as only the folder of '{where}' has them: {', '.join(names)}."
            for where, names in found
            if names
        ]


def images_in(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """Return the volume files and the sub-folders (DICOM series) of a folder by name without suffix.

    Raises InputError when it is no folder, holds no image, holds two of one name, or one that its name hides.
    """
    place = Path(folder)
    if not place.is_dir():
        raise InputError(f"'{place}' is no folder; give the folder that holds the images of one arm.")
    found: dict[str, Path] = {}
    for path in sorted(place.iterdir()):
        if path.is_file() and (why := misnamed(path)):
            raise InputError(f"'{path}' would be left out: {why}")
        if (
            path.name.startswith(".")
            or path.name == _OF_A_BATCH
            or not (path.is_dir() or suffix_of(path) in READABLE_SUFFIXES)
        ):
            continue
        name = path.name if path.is_dir() else stem_of(path)
        if name in found:
            raise InputError(f"'{place}' holds two images called '{name}'; keep one of them.")
        found[name] = path
    if not found:
        raise InputError(
            f"There is no image in '{place}': no {', '.join(READABLE_SUFFIXES)} file and no DICOM folder."
        )
    return found


def match(before: str | os.PathLike[str], after: str | os.PathLike[str]) -> Matched:
    """Match the images of two folders by name; raises InputError when no name is in both."""
    first, second = images_in(before), images_in(after)
    if Path(before).resolve() == Path(after).resolve():
        raise InputError(f"Both folders are '{before}'; give the folder of the images after as the second.")
    both = [name for name in first if name in second]
    if not both:
        raise InputError(
            f"No file name is in both '{before}' and '{after}' (for instance '{next(iter(first))}' and "
            f"'{next(iter(second))}'); name the two images of a case alike."
        )
    return Matched(
        {name: (first[name], second[name]) for name in both},
        tuple(name for name in first if name not in second),
        tuple(name for name in second if name not in first),
    )


def design_from_folders(
    before: str | os.PathLike[str],
    after: str | os.PathLike[str],
    readers: tuple[str, ...],
    preset_name: str = "preference",
    *,
    title: str = "",
    lesions: str | os.PathLike[str] | None = None,
    repeats: int = 0,
    seed: int | None = None,
    choice: Mapping[str, Any] | None = None,
    practice: int = 0,
    **conduct: Any,
) -> tuple[Design, Matched]:
    """Return the design of a study on two folders, and how their images were matched.

    `lesions` is a CSV file with the columns case, x, y, z, radius_mm (mm, LPS): every case not in it is taken
    to be free of lesions. `choice`: which slices of each DICOM folder are meant, the arguments `series` and
    `where` of `CTVolume.read`. `practice`: so many cases, the first by name, are practised with and do not
    count. `conduct` takes the fields of `Conduct`.
    Raises InputError as `match`, `Design` and the readers of the truth do, and for lesions that the preset's
    questions do not ask for.
    """
    ready = preset(preset_name)
    if lesions is not None and not any(question.kind in DETECTION for question in ready.questions):
        raise InputError(
            f"The true lesions have no effect on the preset '{ready.name}', which asks for none: leave them "
            "out, or take 'lesion detection'."
        )
    matched = match(before, after)
    names = _case_names(list(matched.pairs))
    truth = None if lesions is None else read_lesions(lesions, set(matched.pairs))
    cases = tuple(
        Case(
            names[name],
            {BEFORE: first, AFTER: second},
            None if truth is None else name in truth,
            () if truth is None else truth.get(name, ()),
            {arm: dict(choice) for arm, path in ((BEFORE, first), (AFTER, second)) if path.is_dir()}
            if choice
            else {},
        )
        for name, (first, second) in matched.pairs.items()
    )
    if choice and not any(case.choices for case in cases):
        raise InputError("Series and images can be chosen in DICOM folders only, and these are volume files.")
    if not 0 <= practice < len(cases):
        raise InputError(
            f"Of {counted(len(cases), 'case')} {practice} cannot be practised with: at least one has to "
            "count; ask for fewer (--practice)."
        )
    design = Design(
        title=title or f"{ready.name[0].upper()}{ready.name[1:]}, {counted(len(cases) - practice, 'case')}",
        arms=(BEFORE, AFTER),
        cases=cases[practice:],
        practice=cases[:practice],
        readers=readers,
        questions=ready.questions,
        conduct=Conduct.parse(Fields(conduct, "the study"), ready.present),
        repeats=repeats,
        truth={question.id: BEFORE for question in ready.questions if question.kind == "choice"},
        seed=seed,
    )
    return design, matched


def read_lesions(path: str | os.PathLike[str], cases: set[str]) -> dict[str, tuple[Lesion, ...]]:
    """Return the lesions of a CSV file by case.

    The columns may be parted by commas, tabs or semicolons, as spreadsheet programs do that write numbers
    with a decimal comma. Raises InputError for a wrong column, number or case, for lesions that stand twice
    or lie within each other, and for a file without any lesion.
    """
    try:
        heading, *given = rows_of(Path(path).read_text(encoding="utf-8-sig")) or [[]]
        columns = [name.strip().casefold() for name in heading]
        rows = [dict(zip(columns, map(str.strip, row), strict=False)) for row in given]
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"The lesions '{path}' cannot be read as CSV in UTF-8 ({error}).") from error
    if not rows:
        raise InputError(f"The table '{path}' holds no lesion; fill it in, or leave it out.")
    found: dict[str, tuple[Lesion, ...]] = {}
    lines: dict[str, list[int]] = {}
    for line, row in enumerate(rows, start=2):
        where = f"line {line} of '{path}'"
        values = {}
        for column in _TRUTH_COLUMNS:
            if not row.get(column):
                raise InputError(f"{where} has no '{column}'; the columns are {', '.join(_TRUTH_COLUMNS)}.")
        case = next((name for name in (row["case"], stem_of(row["case"])) if name in cases), None)
        if case is None:
            raise InputError(f"{where} names the case '{row['case']}', which is none of the matched images.")
        for column in _TRUTH_COLUMNS[1:]:
            try:
                values[column] = float(row[column])
            except ValueError as error:
                raise InputError(
                    f"'{column}' in {where} must be a number, but it is '{row[column]}'."
                ) from error
        point = [values[axis] for axis in "xyz"]
        lesion = Lesion.parse({"point": point, "radius_mm": values["radius_mm"]}, where)
        found[case] = (*found.get(case, ()), lesion)
        lines.setdefault(case, []).append(line)
    for case, lesions in found.items():
        require_apart(lesions, lines[case], "Lines", f"'{path}'")
    return found


def _case_names(names: list[str]) -> dict[str, str]:
    """Return a name that is fit for tables for every file name: itself where that is possible."""
    fitting: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        short = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._-")[:36] or "case"
        candidate, count = short, 1
        while candidate.casefold() in taken:
            count += 1
            candidate = f"{short}-{count}"
        taken.add(candidate.casefold())
        fitting[name] = candidate
    return fitting
