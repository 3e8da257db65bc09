"""Enhance every CT of a folder, one after the other: resumable, and no failing case stops the others."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

import ctenhance
from ctenhance.commands.apps import app
from ctenhance.commands.options import ModelOption, SamplesOption, StepsOption, StrengthOption
from ctenhance.commands.support import VOLUME_SUFFIXES, Run, command, read_json
from ctenhance.runtime.errors import Cancelled, CTEnhanceError, InputError
from ctenhance.runtime.files import check_output_folder, stem_of, suffix_of
from ctenhance.runtime.progress import check
from ctenhance.runtime.report import write_report

_DICOM_PREAMBLE = 128


@dataclass(frozen=True)
class Case:
    """One CT and where its enhanced volume and its report go; `name` is the path inside the input folder.

    `source` is a volume file or the DICOM files of one folder.
    """

    name: str
    source: Path | tuple[Path, ...]
    output: Path
    report: Path

    def finished(self, wanted: Mapping[str, Any]) -> bool:
        """Say whether it is done: the report is written after the volume, so both there means both whole.

        Raises InputError when it was done otherwise than `wanted` (see `_wanted`): one folder shall not hold
        results of several settings that nobody can tell apart.
        """
        if not (self.output.exists() and self.report.exists()):
            return False
        report = read_json(self.report)
        model = report.get("model") or {}
        known = {
            **(report.get("settings") or {}),
            "model": model.get("name"),
            "sha256 of the model": model.get("sha256"),
            "seed": report.get("seed"),
        }
        for name, value in wanted.items():
            if known.get(name) not in (None, value):
                raise InputError(
                    f"'{self.output.name}' was made before with another {name} ({known[name]}, not {value}); "
                    "take --overwrite or another folder."
                )
        return True


@dataclass
class Outcome:
    """Names of the cases that were done now, those that were finished before, and why the others failed."""

    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Return the outcome in JSON types."""
        return {"done": self.done, "finished_before": self.skipped, "failed": self.failed}


def find_cases(source: Path, target: Path) -> list[Case]:
    """Return every volume file and every folder that holds DICOM files, in the order of their names.

    `target` keeps the folders of `source`. Raises InputError when `source` is no folder or holds no CT, and
    when both are the same folder.
    """
    if not source.is_dir():
        raise InputError(f"'{source}' is no folder; give the folder that holds the CTs.")
    if target.resolve() == source.resolve():
        raise InputError(
            f"The results cannot go into the input folder '{source}' itself; name another folder."
        )
    found: list[Path] = []
    dicom: dict[Path, tuple[Path, ...]] = {}
    for directory, folders, files in os.walk(source):
        here = Path(directory)
        # Hidden ones are unfinished files and other programs' own; an output folder inside is no input.
        folders[:] = sorted(
            name for name in folders if name[0] != "." and (here / name).resolve() != target.resolve()
        )
        visible = [here / name for name in sorted(files) if name[0] != "."]
        found += [path for path in visible if suffix_of(path) in VOLUME_SUFFIXES]
        # Of this folder only: what lies in the folders below are series of their own.
        slices = [path for path in visible if suffix_of(path) not in VOLUME_SUFFIXES and _is_dicom(path)]
        if slices:
            found.append(here)
            dicom[here] = tuple(slices)
    if not found:
        raise InputError(
            f"There is no CT in '{source}': no {', '.join(VOLUME_SUFFIXES)} file and no DICOM folder."
        )
    stems = Counter(_place(path, source, path.is_file()).as_posix().casefold() for path in found)
    cases = []
    for path in found:
        place = _place(path, source, path.is_file())
        if stems[place.as_posix().casefold()] > 1:  # a.nii beside a.mha: the suffix tells them apart
            place = _place(path, source, False)
        cases.append(
            Case(
                name=(path.relative_to(source) if path != source else Path(path.name)).as_posix(),
                source=dicom.get(path, path),
                output=target / place.parent / f"{place.name}.nii.gz",
                report=target / place.parent / f"{place.name}.report.json",
            )
        )
    return cases


def _place(path: Path, source: Path, drop_suffix: bool) -> Path:
    inside = path.relative_to(source)
    if inside == Path("."):  # the input folder is itself a series
        return Path(path.resolve().name)
    return inside.with_name(stem_of(inside)) if drop_suffix else inside


def _is_dicom(path: Path) -> bool:
    if path.name.upper() == "DICOMDIR":  # the index that a disc has beside its folders
        return False
    if suffix_of(path) == ".dcm":
        return True
    try:
        with path.open("rb") as stream:
            stream.seek(_DICOM_PREAMBLE)
            return stream.read(4) == b"DICM"
    except OSError:
        return False


def run_batch(run: Run, cases: list[Case], settings: Mapping[str, Any], overwrite: bool = False) -> Outcome:
    """Enhance the cases that are not finished yet and tell what became of each.

    Raises InputError for a model and a device that are not there, before any case is read; Cancelled when the
    user asks to stop, and what was finished until then stays.
    """
    outcome = Outcome()
    wanted = _wanted(run, settings)
    for number, case in enumerate(cases):
        check(run.cancel)
        run.progress("cases", number, len(cases))
        try:
            if not overwrite and case.finished(wanted):
                outcome.skipped.append(case.name)
                continue
            _enhance(run, case, settings)
            outcome.done.append(case.name)
        except Cancelled:
            raise
        except CTEnhanceError as error:
            outcome.failed[case.name] = str(error)
        # Whatever one file provokes, the hundreds after it are still worth doing.
        except Exception as error:
            outcome.failed[case.name] = f"Something unexpected happened ({type(error).__name__}: {error})."
        if case.name in outcome.failed:
            run.log(f"'{case.name}' failed: {outcome.failed[case.name]}")
    run.progress("cases", len(cases), len(cases))
    return outcome


def _wanted(run: Run, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the reports of finished cases must say, by the names that stand in them."""
    from ctenhance.runtime import weights
    from ctenhance.runtime.device import pick_device

    pick_device(run.device)
    entry = weights.verify(settings["model"] or weights.default_name("enhance"))
    asked = {name: settings[name] for name in ("strength", "steps", "samples") if settings[name] is not None}
    return {"model": entry.name, "sha256 of the model": entry.sha256, "seed": run.seed, **asked}


def _enhance(run: Run, case: Case, settings: Mapping[str, Any]) -> None:
    def progress(stage: str, done: int, total: int) -> None:
        run.progress(f"{case.name}: {stage}", done, total)

    check_output_folder(case.output.parent)
    volume = ctenhance.CTVolume.read(case.source)
    result = ctenhance.enhance(
        volume, **settings, device=run.device, seed=run.seed, progress=progress, cancel=run.cancel
    )
    check(run.cancel)
    # The report goes first when a case is done again: an old one beside a new volume would say 'finished'.
    case.report.unlink(missing_ok=True)
    result.volumes["enhanced"].write(case.output)
    write_report(case.report, result.report)


@command(app, "ctenhance batch incoming/ enhanced/ --strength 0.8")
def batch(
    run: Run,
    source: Annotated[
        Path, typer.Argument(metavar="IN_DIR", help="Volumes and DICOM folders, at any depth.")
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUT_DIR", help="Enhanced volumes and a report for each.")
    ],
    model: ModelOption = None,
    strength: StrengthOption = 1.0,
    steps: StepsOption = None,
    samples: SamplesOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Also do the finished cases again.")] = False,
) -> None:
    """Enhance every CT in a folder; a rerun resumes, and a failing case stops no other."""
    run.plan([])
    cases = find_cases(source, target)
    settings = {"model": model, "strength": strength, "steps": steps, "samples": samples}
    outcome = run_batch(run, cases, settings, overwrite=overwrite)
    report = {"verb": "batch", "settings": settings, **outcome.summary()}
    text = f"{len(outcome.done)} done, {len(outcome.skipped)} finished before, {len(outcome.failed)} failed."
    run.finish(report, {"folder": target}, text=text, **outcome.summary())
    if outcome.failed:
        raise CTEnhanceError(
            f"{len(outcome.failed)} of {len(cases)} cases failed, the others are in '{target}'; "
            f"the first: {next(iter(outcome.failed.values()))}"
        )
