"""The `ctenhance` command: one sub-command a verb.

Nothing heavy is imported here or at the top of the verbs' files, so that `--help` answers at once; each verb
imports what it runs.
"""

from __future__ import annotations

import importlib
import sys
from typing import Annotated

import typer

import ctenhance
from ctenhance.commands.apps import app

#: The files of `commands` that hold verbs, in the order of the help.
VERBS = (
    "enhance",
    "reconstruct",
    "decompose",
    "calibrate",
    "calibrate_scatter",
    "calibrate_inserts",
    "project",
    "simulate",
    "degrade",
    "compare",
    "compare_maps",
    "dicom",
    "serve_dicom",
    "film",
    "convert",
    "batch",
    "study",
    "view",
    "demo",
    "train",
    "weights",
)

for _verb in VERBS:  # each registers itself with `app`
    importlib.import_module(f"ctenhance.commands.{_verb}")


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"ctenhance {ctenhance.__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        # Consoles with a small character set must not turn a sentence into a crash.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    app(prog_name="ctenhance")
