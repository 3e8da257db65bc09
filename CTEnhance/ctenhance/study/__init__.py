"""Reader studies: blinded side-by-side grading, tamper-evident records, and the statistics.

    from ctenhance import study

    study.create(study.Design.read("design.json"), "my-study")  # the owner: images, orders, sealed key
    with study.ReadingSession.open("my-study", "ann") as session:  # a reader, again and again
        session.answer("noise", 4, "left")
        session.next()
    study.unblind("my-study", "my-study-key.json")  # the owner: closes the study
    results = study.analyse("my-study", "my-study-key.json")

What a reader's machine needs (`ReadingSession` and below) imports the standard library only.
`docs/reader-study.md` describes the files and what the blinding and the records can and cannot promise.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctenhance.study.analysis import analyse as analyse
    from ctenhance.study.creation import create as create
    from ctenhance.study.design import Design as Design
    from ctenhance.study.folders import design_from_folders as design_from_folders
    from ctenhance.study.session import ReadingSession as ReadingSession
    from ctenhance.study.study_file import Study as Study
    from ctenhance.study.unblinding import answers as answers
    from ctenhance.study.unblinding import unblind as unblind

_NAMES = {
    "Design": "design",
    "ReadingSession": "session",
    "Study": "study_file",
    "analyse": "analysis",
    "answers": "unblinding",
    "create": "creation",
    "design_from_folders": "folders",
    "unblind": "unblinding",
}

__all__ = [
    "Design",
    "ReadingSession",
    "Study",
    "analyse",
    "answers",
    "create",
    "design_from_folders",
    "unblind",
]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
