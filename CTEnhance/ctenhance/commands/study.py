"""`ctenhance study create|from-folders|from-template|status|unblind|analyse|export|plan`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ctenhance.commands.apps import group
from ctenhance.commands.options import Choice
from ctenhance.commands.support import NEITHER, NO_DEVICE, Run, command
from ctenhance.runtime.errors import InputError, require_one_of
from ctenhance.runtime.words import counted, either

if TYPE_CHECKING:
    from ctenhance.study.gathered import Gathered
    from ctenhance.study.statistics.sample_size import Pilot
    from ctenhance.study.study_file import Study

study_app = group("study", "Blinded reader studies: make, follow, unblind, analyse.")

StudyFolder = Annotated[Path, typer.Argument(metavar="STUDY", help="The study folder.")]
KeyOption = Annotated[
    Path | None, typer.Option(help="The sealed key; STUDY-key.json beside the study otherwise.")
]
WithoutOption = Annotated[list[str] | None, typer.Option(help="Leave this reader out; may be given again.")]


@command(
    study_app, "ctenhance study create design.json my-study --key safe/my-study-key.json", without=NEITHER
)
def create(
    run: Run,
    design: Annotated[
        Path, typer.Argument(metavar="DESIGN", help="The design (JSON), see docs/reader-study.md.")
    ],
    folder: StudyFolder,
    key: KeyOption = None,
) -> None:
    """Make a study from a design.

    Blinded copies of the images, every reader's order, and the sealed key.
    """
    from ctenhance.study import Design
    from ctenhance.study.creation import create as create_study
    from ctenhance.study.remarks import without_areas

    run.plan([design])
    planned = Design.read(design)
    warnings = without_areas(planned.cases, planned.questions)
    created = create_study(planned, folder, key, doubts=warnings, progress=run.progress, cancel=run.cancel)
    _report_creation(run, created, key, warnings)


@command(
    study_app,
    "ctenhance study from-folders before/ after/ my-study --reader ann --reader bob",
    name="from-folders",
    without=NO_DEVICE,
)
def from_folders(
    run: Run,
    before: Annotated[Path, typer.Argument(metavar="BEFORE", help="A folder of images.")],
    after: Annotated[Path, typer.Argument(metavar="AFTER", help="A folder with images of the same names.")],
    folder: StudyFolder,
    reader: Annotated[list[str], typer.Option(help="A reader's name; may be given again.")],
    choice: Choice,
    preset: Annotated[
        str,
        typer.Option(help="preference, 'image quality' (VGA), realism (2AFC) or 'lesion detection' (FROC)."),
    ] = "preference",
    title: Annotated[str, typer.Option(help="What readers see as the study's name.")] = "",
    sessions: Annotated[int, typer.Option(min=1, help="In how many sessions the cases are read.")] = 1,
    washout_days: Annotated[float, typer.Option(min=0, help="Days between two sessions.")] = 0.0,
    repeats: Annotated[int, typer.Option(min=0, help="Readings shown twice, in a session of their own.")] = 0,
    practice: Annotated[
        int, typer.Option(min=0, help="Cases, the first by name, to practise with; they do not count.")
    ] = 0,
    rules: Annotated[str, typer.Option(help="warn or enforce: washout and breaks.")] = "warn",
    lesions: Annotated[
        Path | None, typer.Option(help="The true lesions (CSV: case, x, y, z, radius_mm; mm, LPS).")
    ] = None,
    key: KeyOption = None,
) -> None:
    """Make a study from two folders of images. The files' names say which belong together."""
    from ctenhance.study import design_from_folders
    from ctenhance.study.creation import create as create_study
    from ctenhance.study.remarks import without_areas

    run.plan([before, after])
    design, matched = design_from_folders(
        before,
        after,
        tuple(reader),
        preset,
        title=title,
        lesions=lesions,
        repeats=repeats,
        practice=practice,
        seed=run.seed,
        sessions=sessions,
        washout_days=washout_days,
        rules=rules,
        choice=choice.arguments() if choice else None,
    )
    warnings = [*matched.sentences(), *without_areas(design.cases, design.questions)]
    created = create_study(design, folder, key, doubts=warnings, progress=run.progress, cancel=run.cancel)
    _report_creation(run, created, key, warnings)


@command(
    study_app,
    "ctenhance study from-template realism routine/ quality/ my-study --reader ann --reader bob",
    name="from-template",
    without=NO_DEVICE,
)
def from_template(
    run: Run,
    template: Annotated[str, typer.Argument(metavar="TEMPLATE", help="realism.")],
    routine: Annotated[Path, typer.Argument(metavar="ROUTINE", help="A folder of real routine scans.")],
    quality: Annotated[
        Path, typer.Argument(metavar="QUALITY", help="A folder of scans of higher dose, to degrade.")
    ],
    folder: StudyFolder,
    reader: Annotated[list[str], typer.Option(help="A reader's name; may be given again.")],
    dose: Annotated[
        float | None, typer.Option(help="Dose fraction of the degraded scans; drawn for each otherwise.")
    ] = None,
    cases: Annotated[int | None, typer.Option(min=1, help="At most so many pairs.")] = None,
    title: Annotated[str, typer.Option(help="What readers see as the study's name.")] = "",
    key: KeyOption = None,
) -> None:
    """Make a study whose images are made here.

    realism: can readers tell real routine scans from degraded ones?
    """
    import tempfile

    from ctenhance.study import templates
    from ctenhance.study.creation import check_targets, default_key_path
    from ctenhance.study.creation import create as create_study

    run.plan([routine, quality])
    require_one_of(template, templates.TEMPLATES, "template")
    check_targets(folder, default_key_path(folder) if key is None else key)
    with tempfile.TemporaryDirectory(prefix="ctenhance-") as place:
        design, warnings = templates.realism(
            routine,
            quality,
            tuple(reader),
            Path(place),
            dose=dose,
            most=cases,
            title=title,
            seed=run.seed,
            progress=run.progress,
            cancel=run.cancel,
        )
        created = create_study(design, folder, key, progress=run.progress, cancel=run.cancel)
    _report_creation(run, created, key, warnings)


def _report_creation(run: Run, created: Study, key: Path | None, warnings: list[str]) -> None:
    from ctenhance.study.creation import default_key_path

    key_path = default_key_path(created.folder) if key is None else key
    readings = {reader: sum(trial.counts for trial in created.trials(reader)) for reader in created.readers}
    each = next(iter(readings.values()))
    text = (
        f"{counted(len(created.images), 'image')}, {counted(len(readings), 'reader')} with "
        f"{counted(each, 'reading')} each.\nKeep the key where no reader comes; "
        "without it the study cannot be unblinded."
    )
    report = {"verb": "study create", "study": created.sha256, "readings": readings, "warnings": warnings}
    run.finish(report, {"study": created.folder, "key": key_path}, text=text, readings=readings)


@command(study_app, "ctenhance study status my-study", without=NEITHER)
def status(run: Run, folder: StudyFolder) -> None:
    """Tell how far every reader is. And whether the records are whole; nothing is unblinded."""
    from dataclasses import asdict

    from ctenhance.study.unblinding import status as status_of

    run.plan([])
    states = status_of(folder)
    lines = []
    for state in states:
        how = "finished" if state.finished else f"last at {state.last}" if state.last else "not begun"
        lines.append(
            f"{state.reader}: {state.done} of {state.total} read, "
            f"{counted(float(state.active_minutes), 'active minute')}, {how}"
        )
        if state.last_hash:
            lines[-1] += f"; {counted(state.rows, 'record')}, last hash {state.last_hash[:16]}…"
        lines += [f"  problem: {problem}" for problem in state.problems]
    found = [asdict(state) for state in states]
    run.finish({"verb": "study status", "readers": found}, text="\n".join(lines), readers=found)


@command(study_app, "ctenhance study unblind my-study --key safe/my-study-key.json", without=NEITHER)
def unblind(
    run: Run,
    folder: StudyFolder,
    key: KeyOption = None,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Close it although readers have not finished.")
    ] = False,
    without: WithoutOption = None,
) -> None:
    """Close the study for good. Key and records are checked; no more answers are taken."""
    from ctenhance.study.unblinding import unblind as unblind_study

    run.plan([])
    closed = unblind_study(folder, _key(folder, key), unfinished=unfinished, without=without or [])
    text = (
        f"Closed with the records of {', '.join(closed['heads'])}; analyse it with 'ctenhance study analyse'."
    )
    run.finish({"verb": "study unblind", **closed}, text=text, readers=list(closed["heads"]))


@command(
    study_app, "ctenhance study analyse my-study results/ --key safe/my-study-key.json", without=NO_DEVICE
)
def analyse(
    run: Run,
    folder: StudyFolder,
    target: Annotated[Path, typer.Argument(metavar="OUT_DIR", help="Report, tables and exports.")],
    key: KeyOption = None,
    margin: Annotated[
        float, typer.Option(help="Half-width of equivalence for shares around 50 % (0.1: 40 to 60 %).")
    ] = 0.1,
) -> None:
    """Analyse a closed study.

    Writes report.html, report.pdf, results.json, answers.csv, and the exports.
    """
    from ctenhance.runtime.files import check_output_folder
    from ctenhance.study import analyse as analyse_study
    from ctenhance.study import exports
    from ctenhance.study.report import write_html, write_pdf

    run.plan([])
    results = analyse_study(
        folder, _key(folder, key), margin=margin, seed=run.seed, progress=run.progress, cancel=run.cancel
    )
    place = check_output_folder(target)
    run.progress("report", 0, 1)
    outputs = {
        "report": place / "report.html",
        "pdf": place / "report.pdf",
        "results": place / "results.json",
    }
    write_html(results, outputs["report"])
    write_pdf(results, outputs["pdf"])
    exports.write_json(results.to_json(), outputs["results"])
    written, left_out = _export(results.gathered, place)
    run.progress("report", 1, 1)
    found = results.to_json()
    report = {"verb": "study analyse", **found, "warnings": [*found["warnings"], *left_out]}
    run.finish(report, outputs | written, text="\n".join(results.facts[:2]))


@command(study_app, "ctenhance study export my-study exports/", without=NEITHER)
def export(
    run: Run,
    folder: StudyFolder,
    target: Annotated[Path, typer.Argument(metavar="OUT_DIR", help="Where the files go.")],
    key: KeyOption = None,
) -> None:
    """Write a closed study's answers for other programs.

    Tidy CSV, and the files of iMRMC and RJafroc where they fit.
    """
    from ctenhance.runtime.files import check_output_folder
    from ctenhance.study.analysis import gather

    run.plan([])
    gathered = gather(folder, _key(folder, key))
    outputs, left_out = _export(gathered, check_output_folder(target))
    text = (
        'Higher ratings are more suspicious: in R, pROC wants direction = "<".'
        if any(one.startswith("imrmc") for one in outputs)
        else None
    )
    report = {"verb": "study export", "answers": len(gathered.answers), "warnings": left_out}
    run.finish(report, outputs, text=text)


def _export(gathered: Gathered, place: Path) -> tuple[dict[str, Path], list[str]]:
    """Write the exports that fit; return them, and sentences on what is not in them."""
    from ctenhance.study import exports

    outputs = {"answers": place / "answers.csv"}
    exports.write_tidy(gathered, outputs["answers"])
    left_out = []
    for kind, key, name in (("number", "imrmc", "ratings.imrmc"), ("marks", "rjafroc", "marks.xlsx")):
        questions = exports.questions_of_kind(gathered, kind)
        for question in questions:
            several = f"-{question}" if len(questions) > 1 else ""
            stem, _, suffix = name.partition(".")
            path = outputs[key + several] = place / f"{stem}{several}.{suffix}"
            if kind == "number":
                exports.write_imrmc(gathered, path, question)
            elif sentence := exports.write_rjafroc(gathered, path, question):
                left_out.append(sentence)
    return outputs, left_out


# The options of each kind of plan, with what is taken where they are not given.
_PLANS: dict[str, dict[str, Any]] = {
    "preference": {"share": 0.65, "readers": 3, "agreement": 0.3},
    "equivalence": {"margin": 0.1, "readers": 3, "agreement": 0.3},
    "grades": {"difference": 0.5, "spread": 1.0},
    "mrmc": {"difference": 0.05, "readers": 3, "pilot": None, "question": None, "components": None},
}


@command(
    study_app,
    "ctenhance study plan mrmc --pilot pilot/results.json --difference 0.05 --readers 6",
    without=NEITHER,
)
def plan(
    run: Run,
    kind: Annotated[str, typer.Argument(metavar="KIND", help="preference, equivalence, grades or mrmc.")],
    share: Annotated[
        float | None, typer.Option(help="preference: the true share to be told from 50 % (0.65).")
    ] = None,
    margin: Annotated[
        float | None, typer.Option(help="equivalence: the half-width around 50 % (0.1: 40 to 60 %).")
    ] = None,
    difference: Annotated[
        float | None,
        typer.Option(help="grades: the mean shift to be found (0.5); mrmc: that of the areas (0.05)."),
    ] = None,
    spread: Annotated[float | None, typer.Option(help="grades: the SD of a case's shift (1).")] = None,
    readers: Annotated[
        int | None, typer.Option(min=1, help="Readers of every case, but for grades (3).")
    ] = None,
    agreement: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="preference, equivalence: the correlation of two readers' answers to one case (0.3).",
        ),
    ] = None,
    power: Annotated[float, typer.Option(help="The chance of finding an effect that is there.")] = 0.8,
    pilot: Annotated[Path | None, typer.Option(help="mrmc: results.json of an earlier study.")] = None,
    question: Annotated[str | None, typer.Option(help="mrmc: which question of the pilot.")] = None,
    components: Annotated[
        str | None,
        typer.Option(help="mrmc, instead of a pilot: Var(error),Cov1,Cov2,Cov3,Var(arm x reader),cases."),
    ] = None,
) -> None:
    """Tell how many cases a study needs. In brackets stands what is taken where nothing is given."""
    given = locals()
    run.plan([])
    if kind not in _PLANS:
        raise InputError(f"There is no plan for '{kind}'; choose {either(_PLANS)}.")
    for name in {name for options in _PLANS.values() for name in options} - set(_PLANS[kind]):
        if given[name] is not None:
            raise InputError(f"--{name} has no effect on a plan for {kind}: leave it out.")
    taken = {name: default if given[name] is None else given[name] for name, default in _PLANS[kind].items()}
    from ctenhance.study.statistics import sample_size
    from ctenhance.study.statistics.estimate import ALPHA

    if kind == "mrmc":
        scatter = _pilot(*(taken.pop(name) for name in ("pilot", "question", "components")))
        cases = sample_size.cases_for_mrmc(pilot=scatter, **taken, power=power)
    else:
        cases = getattr(sample_size, f"cases_for_{kind}")(**taken, power=power)
    assumed = ", ".join(f"{name} {value:g}" for name, value in (taken | {"power": power}).items())
    tests = "two one-sided tests" if kind == "equivalence" else "two-sided"
    asked: dict[str, Any] = {"kind": kind, **taken, "power": power, "cases": cases}
    text = f"{counted(cases, 'case')} ({assumed}; alpha {ALPHA:g}, {tests})."
    run.finish({"verb": "study plan", **asked}, text=text, **asked)


def _pilot(path: Path | None, question: str | None, components: str | None) -> Pilot:
    from ctenhance.study.detection import read_pilot
    from ctenhance.study.statistics.sample_size import Pilot

    if (path is None) == (components is None):
        raise InputError(
            "Planning a multi-reader comparison needs either --pilot (results.json of an earlier study) or "
            "--components (six published numbers)."
        )
    if path is not None:
        return read_pilot(path, question)
    try:
        variance, cov1, cov2, cov3, interaction, cases = map(float, str(components).split(","))
    except ValueError as error:
        raise InputError(
            "--components takes six numbers, Var(error),Cov1,Cov2,Cov3,Var(arm x reader),cases, not "
            f"'{components}'."
        ) from error
    return Pilot(variance, cov1, cov2, cov3, interaction, round(cases))


def _key(folder: Path, key: Path | None) -> Path:
    from ctenhance.study.creation import default_key_path

    return default_key_path(folder) if key is None else key
