"""The questions of a study: their kinds, what answers they take, and ready-made sets of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ctenhance.runtime.errors import InputError
from ctenhance.study.fields import Fields, checked_name, different, numbers

PAIR, EACH = "pair", "each"
#: What a question may be asked of: each image by itself, or the pair side by side.
SCOPES = {
    "likert": EACH,
    "yes-no": EACH,
    "number": EACH,
    "text": EACH,
    "marks": EACH,
    "preference": PAIR,
    "choice": PAIR,
}
KINDS = tuple(SCOPES)
DETECTION = ("number", "marks")  # of which ROC and wAFROC areas are made, where the truth is known
LEFT, RIGHT, IMAGE = "left", "right", "image"
PLANES = ("axial", "coronal", "sagittal")
PREFERENCES = ("Left much better", "Left better", "No difference", "Right better", "Right much better")
MOST_TEXT = 10_000
MOST_MARKS = 500


@dataclass(frozen=True)
class Question:
    """One question.

    id        its short name, in records and tables
    kind      `likert` (a whole number from 1, an anchor for each), `preference` (-2 … +2, below 0: left is
              better), `choice` (two-alternative forced choice: 'left' or 'right'), `yes-no`, `number`,
              `text`, `marks` (a list of 3-D points in mm, LPS, each with a confidence 0–100)
    text      what the reader is asked
    scope     `each` (answered for each image shown) or `pair` (once for the two side by side)
    anchors   likert: the words for 1, 2, …
    low, high number: the smallest and the largest that is taken
    required  whether the case counts as read only with an answer
    plane     `axial`, `coronal` or `sagittal`: the views are turned to it while the question is answered; '':
              they stay as they are
    """

    id: str
    kind: str
    text: str
    scope: str
    anchors: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 100.0
    required: bool = True
    plane: str = ""

    @classmethod
    def parse(cls, values: Any, where: str) -> Question:
        """Return the question of a JSON object; raises InputError naming the field that is wrong."""
        fields = Fields(values, where)
        name = checked_name(fields.take("id", str), f"'id' of {where}")
        fields.where = f"question '{name}'"
        kind = fields.one_of("kind", KINDS)
        anchors = tuple(fields.take("anchors", list, []))
        if any(not isinstance(anchor, str) for anchor in anchors):
            raise InputError(f"'anchors' of question '{name}' must be a list of texts.")
        if kind == "likert" and not 2 <= len(anchors) <= 11:
            raise InputError(f"Question '{name}' needs 2 to 11 'anchors', one for each point of its scale.")
        if kind != "likert" and anchors:
            raise InputError(f"Question '{name}' is no likert scale and takes no 'anchors'; leave them out.")
        low, high = fields.take("low", float, 0.0), fields.take("high", float, 100.0)
        if not low < high:
            raise InputError(
                f"'low' of question '{name}' must be below its 'high', but they are {low:g} and {high:g}."
            )
        question = cls(
            id=name,
            kind=kind,
            text=fields.take("text", str),
            scope=fields.one_of("scope", (EACH, PAIR), SCOPES[kind]),
            anchors=anchors,
            low=low,
            high=high,
            required=fields.take("required", bool, kind not in ("text", "marks")),
            plane=fields.one_of("plane", ("", *PLANES), ""),
        )
        fields.done()
        if question.scope != SCOPES[kind] and (SCOPES[kind] == PAIR or kind == "marks"):
            raise InputError(f"Question '{name}' of the kind {kind} can only be asked of '{SCOPES[kind]}'.")
        return question

    def to_json(self) -> dict[str, Any]:
        """Return the object that `parse` reads."""
        values: dict[str, Any] = {
            "id": self.id,
            "kind": self.kind,
            "text": self.text,
            "scope": self.scope,
            "required": self.required,
        }
        if self.kind == "likert":
            values["anchors"] = list(self.anchors)
        if self.kind == "number":
            values.update(low=self.low, high=self.high)
        if self.plane:
            values["plane"] = self.plane
        return values

    @property
    def choices(self) -> tuple[tuple[Any, str], ...]:
        """The answers to offer, as (value, words); empty where the answer is free."""
        if self.kind == "likert":
            return tuple(enumerate(self.anchors, start=1))
        if self.kind == "preference":
            return tuple(zip(range(-2, 3), PREFERENCES, strict=True))
        if self.kind == "choice":
            return ((LEFT, "Left"), (RIGHT, "Right"))
        return ((False, "No"), (True, "Yes")) if self.kind == "yes-no" else ()

    def checked(self, value: Any) -> Any:
        """Return the answer in its JSON form; raises InputError for what is none to this question.

        A number becomes a float, a mark `{"point": [x, y, z], "confidence": c}` with floats.
        """
        if self.choices:
            for allowed, _words in self.choices:
                if value == allowed and isinstance(value, bool) == isinstance(allowed, bool):
                    return allowed
            offered = ", ".join(str(allowed) for allowed, _words in self.choices)
            raise InputError(f"'{self.id}' takes one of {offered}, but the answer is {value!r}.")
        if self.kind == "number":
            return self._number(value, self.low, self.high, f"'{self.id}'")
        if self.kind == "text":
            if not isinstance(value, str) or len(value) > MOST_TEXT:
                raise InputError(f"'{self.id}' takes a text of up to {MOST_TEXT} characters.")
            return value
        if not isinstance(value, (list, tuple)) or len(value) > MOST_MARKS:
            raise InputError(f"'{self.id}' takes a list of up to {MOST_MARKS} marks.")
        return [self._mark(mark, f"Mark {count} of '{self.id}'") for count, mark in enumerate(value, start=1)]

    def _mark(self, mark: Any, where: str) -> dict[str, Any]:
        if not isinstance(mark, Mapping) or set(mark) != {"point", "confidence"}:
            raise InputError(f"{where} must have a 'point' (x, y, z in mm) and a 'confidence' (0 to 100).")
        point = list(numbers(mark["point"], 3, f"The point of {where[0].lower()}{where[1:]}"))
        return {
            "point": point,
            "confidence": self._number(mark["confidence"], 0, 100, f"The confidence of {where}"),
        }

    @staticmethod
    def _number(value: Any, low: float, high: float, what: str) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise InputError(f"{what} takes a number, but the answer is {value!r}.")
        if not low <= value <= high:
            raise InputError(f"{what} takes a number from {low:g} to {high:g}, but the answer is {value:g}.")
        return float(value)


@dataclass(frozen=True)
class Preset:
    """A ready-made set of questions; `present` as in `Conduct`: side by side or one at a time."""

    name: str
    present: str
    questions: tuple[Question, ...]
    about: str = field(default="")


def _likert(name: str, text: str, *anchors: str) -> Question:
    return Question(name, "likert", text, EACH, anchors)


PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            "image quality (VGA)",
            "pair",
            (
                _likert(
                    "noise", "Image noise", "Unacceptable", "Strong", "Moderate", "Slight", "None visible"
                ),
                _likert(
                    "sharpness",
                    "Sharpness of small structures",
                    "Blurred",
                    "Poor",
                    "Fair",
                    "Good",
                    "Excellent",
                ),
                _likert("artefacts", "Artefacts", "Unreadable", "Disturbing", "Moderate", "Slight", "None"),
                _likert(
                    "texture", "Texture", "Artificial", "Unusual", "Acceptable", "Nearly natural", "Natural"
                ),
                _likert("confidence", "Diagnostic confidence", "None", "Low", "Moderate", "High", "Full"),
                _likert("overall", "Overall image quality", "Unusable", "Poor", "Fair", "Good", "Excellent"),
            ),
            "Visual grading: each image on 5-point scales.",
        ),
        Preset(
            "preference",
            "pair",
            (
                Question("preference", "preference", "Which image would you rather read?", PAIR),
                Question("comment", "text", "Anything to remark?", PAIR, required=False),
            ),
            "Two images side by side, -2 to +2.",
        ),
        Preset(
            "realism (2AFC)",
            "pair",
            (Question("real", "choice", "Which is the real scan?", PAIR),),
            "Two-alternative forced choice: can readers tell the real scan?",
        ),
        Preset(
            "lesion detection (FROC)",
            "single",
            (
                Question(
                    "lesions", "marks", "Mark every lesion and give your confidence.", EACH, required=False
                ),
                Question("suspicion", "number", "Suspicion that there is any lesion (0 to 100)", EACH),
            ),
            "One image at a time: lesion marks with confidence, and a rating of the whole case.",
        ),
    )
}


def preset(name: str) -> Preset:
    """Return the preset of that name or of the word before its brackets; raises InputError for others."""
    for full, found in PRESETS.items():
        if name.casefold() in (full.casefold(), full.casefold().partition(" (")[0]):
            return found
    raise InputError(f"There is no preset '{name}'; choose one of: {'; '.join(PRESETS)}.")


def parse_questions(values: Any, where: str, present: str) -> tuple[Question, ...]:
    """Return the questions of a list.

    Raises InputError for none, for one id twice, and for one on a pair where images come one at a time.
    """
    if not isinstance(values, list) or not values:
        raise InputError(f"'questions' in {where} must be a list of at least one question.")
    questions = tuple(Question.parse(one, f"Question {count}") for count, one in enumerate(values, start=1))
    different(tuple(question.id for question in questions), "questions", where)
    for question in questions:
        if present == "single" and question.scope == PAIR:
            raise InputError(
                f"Question '{question.id}' compares two images, but images are shown one at a time; "
                "set 'present' to 'pair' or leave the question out."
            )
    return questions
