"""The sealed key: which file shows which arm of which case, and the truth. Reading never opens it.

'Sealed' means: it is a file of its own, outside of the study folder, readable by its owner only, and the
study holds its SHA-256, so that it cannot be exchanged after the reading. It is not encrypted: keep it where
readers do not come.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import write_text
from ctenhance.runtime.json_object import read_object
from ctenhance.study.design import Lesion
from ctenhance.study.fields import Fields, canonical, require_format, sha256_of

FORMAT, VERSION = "ctenhance-study-key", 1


@dataclass(frozen=True)
class KeyCase:
    """A case in the key: its images by arm (file names in the study), where they came from, and the truth."""

    name: str
    images: dict[str, str]
    sources: dict[str, dict[str, str]]
    diseased: bool | None
    lesions: tuple[Lesion, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the case as the key's file has it."""
        return {
            "name": self.name,
            "images": self.images,
            "sources": self.sources,
            "diseased": self.diseased,
            "lesions": [lesion.to_json() for lesion in self.lesions],
        }


@dataclass(frozen=True)
class Key:
    """What the key file holds."""

    study: str
    seed: int
    salt: str
    arms: tuple[str, ...]
    cases: tuple[KeyCase, ...]
    truth: dict[str, str]
    practice: tuple[KeyCase, ...] = ()

    def write(self, path: Path) -> None:
        """Write the key file, readable by its owner only (where the system knows of owners)."""
        write_text(path, self.text())
        os.chmod(path, 0o600)

    def text(self) -> str:
        """Return the file's text."""
        practice = {"practice": [case.to_json() for case in self.practice]} if self.practice else {}
        return canonical(
            {
                "format": FORMAT,
                "version": VERSION,
                "study": self.study,
                "seed": self.seed,
                "salt": self.salt,
                "arms": list(self.arms),
                "truth": self.truth,
                "cases": [case.to_json() for case in self.cases],
                **practice,
            }
        )

    @classmethod
    def read(cls, path: str | os.PathLike[str], key_sha256: str) -> Key:
        """Read the key that belongs to the commitment in the study.

        Raises InputError when it is missing, the key of another study, or was changed.
        """
        values = read_object(path, "study key")
        require_format(values, FORMAT, VERSION, path)
        if sha256_of(Path(path).read_bytes()) != key_sha256:
            raise InputError(
                f"The key '{path}' does not belong to this study or was changed: its hash is not the one "
                "that the study has committed itself to; give the key that was made with the study."
            )
        fields = Fields(values, f"the key '{path}'")
        return cls(
            study=fields.take("study", str),
            seed=fields.take("seed", int),
            salt=fields.take("salt", str),
            arms=fields.names("arms"),
            truth=fields.take("truth", dict),
            cases=tuple(_case(one) for one in fields.take("cases", list)),
            practice=tuple(_case(one) for one in fields.take("practice", list, [])),
        )

    def where(self) -> dict[str, tuple[KeyCase, str]]:
        """Return for each image file of the study its case and its arm."""
        return {image: (case, arm) for case in self.cases for arm, image in case.images.items()}


def _case(values: Any) -> KeyCase:
    fields = Fields(values, "a case in the key")
    name = fields.take("name", str)
    return KeyCase(
        name=name,
        images=fields.take("images", dict),
        sources=fields.take("sources", dict),
        diseased=fields.take("diseased", bool, None),
        lesions=tuple(
            Lesion.parse(one, f"a lesion of case '{name}'") for one in fields.take("lesions", list)
        ),
    )
