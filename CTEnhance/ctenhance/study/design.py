"""The owner's design of a study: which images, which arms, which questions, which readers, which truth.

The design is what the owner writes (`design.json`). Readers never see it: `creation` makes from it the study
folder, which holds no arm, case or file name, and the sealed key, which does.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ctenhance.runtime.errors import InputError
from ctenhance.runtime.json_object import read_object
from ctenhance.runtime.words import counted
from ctenhance.study.conduct import Conduct
from ctenhance.study.fields import Fields, checked_name, different, numbers, require_format
from ctenhance.study.questions import Question, parse_questions, preset

FORMAT, VERSION = "ctenhance-study-design", 1
LARGEST_RADIUS_MM = 500.0


@dataclass(frozen=True)
class Lesion:
    """A true lesion: its centre (mm, LPS) and how near a mark must be to have found it (mm)."""

    point: tuple[float, float, float]
    radius_mm: float

    @classmethod
    def parse(cls, values: Any, where: str) -> Lesion:
        """Return the lesion that a JSON object describes; raises InputError."""
        fields = Fields(values, where)
        x, y, z = numbers(fields.take("point", list), 3, f"'point' in {where}")
        radius = fields.take("radius_mm", float)
        fields.done()
        if not 0 < radius <= LARGEST_RADIUS_MM:
            raise InputError(
                f"'radius_mm' in {where} must be above 0 and at most {LARGEST_RADIUS_MM:g}, not {radius:g}."
            )
        return cls((x, y, z), radius)

    def to_json(self) -> dict[str, Any]:
        """Return the object that `parse` reads."""
        return {"point": list(self.point), "radius_mm": self.radius_mm}


@dataclass(frozen=True)
class Case:
    """One patient or phantom: an image for every arm (file or DICOM folder), and the truth where it is known.

    `diseased` is None where the truth is not known; a case with lesions is diseased. `choices`: by arm, which
    slices of a DICOM folder are meant, the arguments `series` and `where` of `CTVolume.read`.
    """

    name: str
    images: dict[str, Path]
    diseased: bool | None = None
    lesions: tuple[Lesion, ...] = ()
    choices: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Design:
    """A whole design. `truth` names for 'choice' questions the arm that is the right answer.

    `seed` is drawn from the system's random source where it is None; the order and the sides also depend on a
    random salt that stands in the key only, so knowing the seed does not unblind. Readers begin with
    the `practice` cases, whose answers do not count.
    """

    title: str
    arms: tuple[str, ...]
    cases: tuple[Case, ...]
    readers: tuple[str, ...]
    questions: tuple[Question, ...]
    conduct: Conduct = field(default_factory=Conduct)
    repeats: int = 0
    truth: dict[str, str] = field(default_factory=dict)
    seed: int | None = None
    practice: tuple[Case, ...] = ()

    def __post_init__(self) -> None:
        _check(self)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Design:
        """Read a design file (JSON); image paths in it are relative to its folder.

        Raises InputError with one sentence for whatever is wrong in it.
        """
        values = read_object(path, "study design")
        require_format(values, FORMAT, VERSION, path)
        return cls.parse(values, Path(path).parent)

    @classmethod
    def parse(cls, values: dict[str, Any], folder: Path) -> Design:
        """Return the design that a JSON object describes; relative paths start at `folder`."""
        fields = Fields(values, "the study design")
        for known in ("format", "version"):
            fields.take(known, type(values.get(known)), None)
        chosen = fields.take("preset", str, None)
        asked = fields.take("questions", list, None)
        if (chosen is None) == (asked is None):
            raise InputError("The study design needs either a 'preset' or a list of 'questions'.")
        ready = None if chosen is None else preset(chosen)
        conduct = Conduct.parse(fields, "pair" if ready is None else ready.present)
        questions = (
            parse_questions(
                [one.to_json() for one in ready.questions], f"the preset '{ready.name}'", conduct.present
            )
            if ready is not None
            else parse_questions(asked, "the study design", conduct.present)
        )
        arms = fields.names("arms")
        truth = fields.take("truth", dict, {})
        design = cls(
            title=fields.take("title", str),
            arms=arms,
            cases=tuple(
                _case(one, f"case {count}", arms, folder)
                for count, one in enumerate(fields.take("cases", list), start=1)
            ),
            readers=fields.names("readers"),
            questions=questions,
            conduct=conduct,
            repeats=fields.number("repeats", 0, 100_000, 0, kind=int),
            truth=truth,
            seed=fields.number("seed", 0, 2**63, None, kind=int),
            practice=tuple(
                _case(one, f"practice case {count}", arms, folder)
                for count, one in enumerate(fields.take("practice", list, []), start=1)
            ),
        )
        fields.done()
        return design


def _case(values: Any, where: str, arms: tuple[str, ...], folder: Path) -> Case:
    fields = Fields(values, where)
    name = checked_name(fields.take("name", str), f"'name' of {where}")
    fields.where = f"case '{name}'"
    images = fields.take("images", dict)
    choices = {}
    for arm in arms:
        if isinstance(images.get(arm), dict):
            images[arm], choices[arm] = _chosen(images[arm], f"the image '{arm}' of case '{name}'")
        if not isinstance(images.get(arm), str):
            raise InputError(
                f"Case '{name}' has no image for the arm '{arm}'; name its file or DICOM folder."
            )
    unknown = sorted(set(images) - set(arms))
    if unknown:
        raise InputError(f"Case '{name}' has an image for '{unknown[0]}', which is none of the arms.")
    lesions = tuple(
        Lesion.parse(one, f"lesion {count} of case '{name}'")
        for count, one in enumerate(fields.take("lesions", list, []), start=1)
    )
    diseased = fields.take("diseased", bool, True if lesions else None)
    fields.done()
    if lesions and not diseased:
        raise InputError(
            f"Case '{name}' has lesions but says that it is not diseased; correct one of the two."
        )
    return Case(name, {arm: folder / images[arm] for arm in arms}, diseased, lesions, choices)


def _chosen(values: dict[str, Any], where: str) -> tuple[str, dict[str, Any]]:
    """Return the path of an image that is given as {"path": "scan", "series": 3, "where": {"KVP": 80}}, and
    the choice."""
    fields = Fields(values, where)
    path = fields.take("path", str)
    series = values.get("series")
    if not isinstance(series, int | str | None) or isinstance(series, bool):
        raise InputError(f"'series' of {where} must be a number or a UID, but it is {series!r}.")
    fields.take("series", type(series), None)
    choice = {"series": series, "where": fields.take("where", dict, {})}
    fields.done()
    return path, choice


def _check(design: Design) -> None:
    """Raise InputError for what no single field shows."""
    where = "the study design"
    if not design.title.strip():
        raise InputError("The study design needs a 'title'.")
    cases = tuple(case.name for case in (*design.cases, *design.practice))
    for name, values in (("arms", design.arms), ("readers", design.readers), ("cases", cases)):
        for value in values:
            checked_name(value, f"'{name}' in {where}")
        different(values, name, where)
    if not design.cases or not design.readers or not design.arms:
        raise InputError("A study needs at least one case, one reader and one arm.")
    pairs = design.conduct.present == "pair"
    if pairs and len(design.arms) < 2:
        raise InputError("Images are shown in pairs, but there is only one arm; set 'present' to 'single'.")
    if not pairs and design.conduct.sessions not in (1, len(design.arms)):
        raise InputError(
            f"With one image at a time there must be 1 session or one for each of the {len(design.arms)} "
            f"arms, so that no case is seen twice in a session, but there are {design.conduct.sessions}."
        )
    readings = len(design.cases) * (
        len(design.arms) * (len(design.arms) - 1) // 2 if pairs else len(design.arms)
    )
    if design.conduct.sessions > readings:
        raise InputError(
            f"There are {design.conduct.sessions} sessions for {counted(readings, 'reading')}; plan "
            "fewer sessions."
        )
    if design.repeats > readings:
        raise InputError(
            f"'repeats' is {design.repeats}, but a reader has only {counted(readings, 'reading')} to repeat."
        )
    conduct = design.conduct
    if conduct.washout_days and conduct.sessions == 1 and not design.repeats:
        raise InputError(
            f"A washout of {counted(conduct.washout_days, 'day')} has no effect on a study of one session: "
            "plan more sessions or repeats, or leave it out."
        )
    if conduct.enforced and not (conduct.washout_days or conduct.break_every_minutes):
        raise InputError(
            "Rules are to be enforced, but the study has neither a washout nor breaks: ask for one of them, "
            "or leave the rules out."
        )
    choices = {question.id for question in design.questions if question.kind == "choice"}
    for question, arm in design.truth.items():
        if question not in choices:
            raise InputError(f"'truth' names '{question}', which is no question of the kind 'choice'.")
        if arm not in design.arms:
            raise InputError(
                f"'truth' says that '{arm}' is right for '{question}', but that is none of the arms."
            )
