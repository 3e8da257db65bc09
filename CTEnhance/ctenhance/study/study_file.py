"""The study as readers have it: `study.json` beside the images. It tells nothing of arms, cases or truth."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctenhance.runtime.errors import InputError, quoted
from ctenhance.runtime.json_object import read_object
from ctenhance.study.conduct import Conduct
from ctenhance.study.fields import Fields, canonical, numbers, require_format, sha256_of
from ctenhance.study.questions import EACH, IMAGE, LEFT, PAIR, RIGHT, Question, parse_questions

FORMAT, VERSION = "ctenhance-study", 1
# Of a study with practice, which an earlier program would take for the first session.
VERSION_WITH_PRACTICE = 2
PRACTICE = 0
STUDY_FILE, IMAGE_FOLDER, RECORD_FOLDER, CLOSED_FILE = "study.json", "images", "records", "unblinded.json"


@dataclass(frozen=True)
class Trial:
    """One thing to read: its number (from 1), its session and its images, left to right.

    Sessions are counted from 1; that of `PRACTICE` (0) comes before, and its answers do not count.
    """

    number: int
    session: int
    images: tuple[str, ...]

    @property
    def counts(self) -> bool:
        """Whether its answers are results of the study."""
        return self.session != PRACTICE


@dataclass(frozen=True)
class Study:
    """The reader-visible part of a study, as `study.json` holds it.

    images      file name: (SHA-256 of the file, its bytes)
    schedule    the trials of every reader, in their order
    key_sha256  the commitment: SHA-256 of the sealed key file, so that the key cannot be changed afterwards
    sha256      of all of this (the canonical JSON without the field itself); records are bound to it
    """

    folder: Path
    id: str
    title: str
    created: str
    conduct: Conduct
    questions: tuple[Question, ...]
    images: Mapping[str, tuple[str, int]]
    schedule: Mapping[str, tuple[Trial, ...]]
    key_sha256: str
    sha256: str = ""

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Study:
        """Read the study in the folder (or the `study.json` itself).

        Raises InputError when there is none, when it was edited, or when something in it is wrong.
        """
        path = Path(folder)
        path = path if path.name == STUDY_FILE else path / STUDY_FILE
        values = read_object(path, "study")
        practises = values.get("version") == VERSION_WITH_PRACTICE
        require_format(values, FORMAT, VERSION_WITH_PRACTICE if practises else VERSION, path)
        digest = values.pop("sha256", None)
        if digest != sha256_of(canonical(values)):
            raise InputError(
                f"The study '{path}' was changed after it was made: its contents do not match its hash; "
                "take the owner's copy of the folder."
            )
        fields = Fields(values, f"the study '{path}'")
        conduct_fields = Fields(fields.take("conduct", dict), f"'conduct' of the study '{path}'")
        conduct = Conduct.parse(conduct_fields)
        conduct_fields.done()
        study = cls(
            folder=path.parent,
            id=fields.take("id", str),
            title=fields.take("title", str),
            created=fields.take("created", str),
            conduct=conduct,
            questions=parse_questions(fields.take("questions", list), fields.where, conduct.present),
            images={name: _image(one, name) for name, one in fields.take("images", dict).items()},
            schedule=_schedule(fields.take("schedule", dict)),
            key_sha256=fields.take("key_sha256", str),
            sha256=str(digest),
        )
        for trials in study.schedule.values():
            for trial in trials:
                if missing := set(trial.images) - set(study.images):
                    raise InputError(
                        f"The study '{path}' shows an image {quoted(missing.pop())} that it does not list."
                    )
        return study

    def to_json(self) -> dict[str, Any]:
        """Return the object that `read` reads, hash included."""
        values: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION_WITH_PRACTICE if self.practises else VERSION,
            "id": self.id,
            "title": self.title,
            "created": self.created,
            "conduct": self.conduct.to_json(),
            "questions": [question.to_json() for question in self.questions],
            "images": {
                name: {"sha256": digest, "bytes": size} for name, (digest, size) in self.images.items()
            },
            "schedule": {
                reader: [[trial.session, *trial.images] for trial in trials]
                for reader, trials in self.schedule.items()
            },
            "key_sha256": self.key_sha256,
        }
        return {**values, "sha256": sha256_of(canonical(values))}

    @property
    def readers(self) -> tuple[str, ...]:
        """The readers' names."""
        return tuple(self.schedule)

    @property
    def practises(self) -> bool:
        """Whether readers begin with cases that do not count."""
        return any(not trial.counts for trials in self.schedule.values() for trial in trials)

    @property
    def sides(self) -> tuple[str, ...]:
        """The names of the images of a trial: left and right, or the one image."""
        return (LEFT, RIGHT) if self.conduct.present == PAIR else (IMAGE,)

    def asked(self) -> tuple[tuple[Question, str], ...]:
        """What is answered in each trial: every question with 'left', 'right', 'image' or 'pair'."""
        return tuple(
            (question, side)
            for question in self.questions
            for side in (self.sides if question.scope == EACH else (PAIR,))
        )

    def question(self, name: str) -> Question:
        """Return the question of that id; raises InputError when there is none."""
        for question in self.questions:
            if question.id == name:
                return question
        raise InputError(
            f"The study asks no question '{name}'; it asks {', '.join(q.id for q in self.questions)}."
        )

    def trials(self, reader: str) -> tuple[Trial, ...]:
        """Return the reader's trials; raises InputError for somebody who is no reader of this study."""
        if reader not in self.schedule:
            raise InputError(
                f"'{reader}' is no reader of the study '{self.title}'; choose {', '.join(self.readers)}."
            )
        return self.schedule[reader]

    def image_path(self, name: str) -> Path:
        """Return where the image is; raises InputError when it is missing or has another size than it had.

        Whoever reads it compares its hash, too: that takes a while.
        """
        path = self.folder / IMAGE_FOLDER / name
        size = self.images[name][1]
        if not path.is_file():
            raise InputError(
                f"The image '{name}' of the study is missing; copy the whole study folder again."
            )
        if path.stat().st_size != size:
            raise InputError(
                f"The image '{name}' of the study is damaged; copy the whole study folder again."
            )
        return path

    def record_path(self, reader: str) -> Path:
        """Return where the reader's records are (or will be)."""
        return self.folder / RECORD_FOLDER / f"{reader}.sqlite"

    @property
    def closed(self) -> bool:
        """Whether the study was unblinded: no more answers are taken."""
        return (self.folder / CLOSED_FILE).exists()


def _image(values: Any, name: str) -> tuple[str, int]:
    fields = Fields(values, f"image '{name}' of the study")
    if Path(name).name != name or name.startswith("."):
        raise InputError(f"The study names an image '{name}', which is no file name; take the owner's copy.")
    facts = fields.take("sha256", str), fields.take("bytes", int)
    fields.done()
    return facts


def _schedule(values: dict[str, Any]) -> dict[str, tuple[Trial, ...]]:
    schedule: dict[str, tuple[Trial, ...]] = {}
    for reader, trials in values.items():
        where = f"the schedule of '{reader}'"
        if not isinstance(trials, list) or not trials:
            raise InputError(f"{where} must be a list of at least one trial; take the owner's copy.")
        found = []
        for number, trial in enumerate(trials, start=1):
            if not isinstance(trial, list) or not all(isinstance(name, str) for name in trial[1:]):
                raise InputError(
                    f"Trial {number} in {where} must be a session and its images; take the owner's copy."
                )
            (session,) = numbers(trial[:1], 1, f"The session of trial {number} in {where}")
            found.append(Trial(number, int(session), tuple(trial[1:])))
        schedule[reader] = tuple(found)
    return schedule
