"""Everything that removes noise, on the same held-out patients, in one run.

    python benchmarks/run.py                                held-out patients of ../shared/data/ct
    python benchmarks/run.py --pairs PAIRS --validate VALIDATION --out RESULTS
    python benchmarks/run.py --pairs PAIRS --out RESULTS --trained red-cnn.safetensors --samplers 50

The project's models (one draw; of the diffusion also the mean of eight), filters tuned on the validation
patients and, as their ceiling, on the very slices, networks of others trained on the same pairs
(`train_peers.py`), and the diffusion's own network under DDIM and DDPM. It prints tables with intervals over
patients, and verdicts; `--out` also writes results.json, results.md, a picture a patient and of the worst
slices, and keeps each method's slices, so that a run that was stopped goes on where it was. Nothing is
asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import ctenhance
from cases import HELD_OUT, Source, held_out_source, pairs_source
from ctenhance.core.report import write_report
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import write_text
from ending import one_sentence
from measure import measure_case, say
from methods import Filtered, Given, Input, Kept, Method, Ours, Trained, other_samplers, our_models, tuned_on
from peers import all_peers
from picture import worst_of, write_picture, write_reliability
from tables import all_tables, verdicts

REPOSITORY = Path(__file__).resolve().parents[1]
DEFAULT_DATA = REPOSITORY.parent / "shared" / "data" / "ct"
LIBRARIES = ("torch", "monai", "numpy", "scipy", "scikit-image", "bm3d")
FAVOUR = (
    "A filter's strength is that of the validation patients; 'slice-tuned' is chosen per patient by the "
    "PSNR against that patient's own reference, on the very slices it is measured on (BM3D: on one of them), "
    "a favour that the models do not get. Intervals: 95 %, bootstrap over patients; few make them wide."
)


def machine(threads: int) -> dict[str, Any]:
    """What the times depend on."""
    versions = {"python": platform.python_version(), "ctenhance": ctenhance.__version__}
    versions |= {name: metadata.version(name) for name in LIBRARIES}
    return {
        "cpus": os.cpu_count(),
        "architecture": platform.machine(),
        "threads": threads,
        "versions": versions,
    }


def machine_line(facts: dict[str, Any]) -> str:
    """The same in one line."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return (
        f"{facts['cpus']} CPUs ({facts['architecture']}), no GPU; {facts['threads']} threads for the models "
        f"and BM3D, 1 for the other peers; {versions}"
    )


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--pairs", type=Path, action="append", default=[], help="folder of pairs; may be given again")
    add("--data", type=Path, help="folder with the held-out scans, which get degraded by `routine`")
    add("--only", nargs="+", default=HELD_OUT, help="parts of the names of the scans to use of --data")
    add("--dose", type=float, default=0.25, help="dose fraction for --data (default 0.25)")
    add("--seed", type=int, default=17, help="of the degradation of --data (default 17)")
    add("--slices", type=int, default=4, help="slices a patient, at even distances (default 4)")
    add(
        "--bm3d-slices",
        type=int,
        help="slices a patient for BM3D, which takes 10 s each (default: all of them)",
    )
    add(
        "--model",
        action="append",
        default=[],
        help="a weights file beside the registered models; may be given again",
    )
    add("--registered", nargs="*", help="registered models to take (default: all; none named: none)")
    add("--steps", type=int, help="diffusion steps (default: the model's)")
    add("--peers", nargs="*", help="filters to take: Gaussian bilateral TV NLM BM3D (default: all)")
    add("--validate", type=Path, help="folder of pairs to find the filters' strengths on (default: none)")
    add("--no-ceiling", action="store_true", help="leave out the filters tuned on the very slices")
    add(
        "--images",
        action="append",
        default=[],
        metavar="LABEL=FOLDER",
        help="images <patient>.nii.gz that another program made of the same inputs; may be given again",
    )
    add("--trained", type=Path, nargs="*", default=[], help="networks that train_peers.py trained")
    add("--draws", type=int, default=8, help="draws that are averaged beside one draw (default 8)")
    add(
        "--samplers",
        type=int,
        nargs="*",
        default=[],
        help="steps of DDIM and DDPM of the diffusion's network",
    )
    add("--threads", type=int, help="CPU threads (default: torch's, which follows OMP_NUM_THREADS)")
    add("--out", type=Path, help="folder for results.json, results.md and pictures")
    return parser.parse_args()


def sources(asked: argparse.Namespace, kept: Kept) -> list[Source]:
    """The data that was asked for; InputError where there is none."""
    found = [pairs_source(folder, asked.slices) for folder in asked.pairs]
    data = asked.data
    if data is None and not found:
        data = DEFAULT_DATA
        if not data.is_dir():
            raise InputError("There is no data to measure on: name a folder with --pairs or --data.")
    if data is not None:
        found.append(held_out_source(data, asked.only, asked.slices, asked.dose, asked.seed, kept))
    return found


def plan(asked: argparse.Namespace, threads: int, kept: Kept) -> list[Method]:
    """The methods that were asked for; InputError for unknown ones, and for counts below 1."""
    for name in ("slices", "bm3d_slices", "threads", "draws"):
        if getattr(asked, name) is not None and getattr(asked, name) < 1:
            raise InputError(f"--{name.replace('_', '-')} must be at least 1.")
    known = {peer.name: peer for peer in all_peers(threads)}
    chosen = list(known) if asked.peers is None else asked.peers
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise InputError(f"There is no peer '{unknown[0]}': choose from {', '.join(known)}.")
    models = our_models(asked.model, asked.steps, asked.registered, asked.draws)
    methods: list[Method] = [Input()]
    if asked.validate is not None:
        found = pairs_source(asked.validate, asked.slices)
        cases = [found.load(name) for name in found.names]
        for name in chosen:
            say(f"{name}: strength on the validation patients")
            methods.append(Filtered(known[name], asked.bm3d_slices, tuned_on(known[name], cases, kept)))
    if not asked.no_ceiling:
        methods += [Filtered(known[name], asked.bm3d_slices) for name in chosen]
    for given in asked.images:
        label, _, folder = given.partition("=")
        if not label or not Path(folder).is_dir():
            raise InputError(f"--images {given}: give a label, '=' and a folder of images that is there.")
        methods.append(Given(label, Path(folder)))
    methods += [Trained(path) for path in asked.trained]
    methods += other_samplers(models, asked.samplers)
    if not models:
        say("No model of the project is registered or named by --model: the peers stand alone.")
    return [*methods, *models]


def run_source(
    source: Source, methods: Sequence[Method], out: Path | None, kept: Kept
) -> tuple[list[dict[str, Any]], list[str]]:
    """Measure all patients of a source; returns their figures and the names of the pictures."""
    patients, pictures = [], []
    label = "".join(letter if letter.isalnum() else "_" for letter in source.title).strip("_")
    for number, name in enumerate(source.names):
        say(f"{source.title}, patient {number + 1} of {len(source.names)}: {name}")
        case = source.load(name)
        facts, images = measure_case(source.title, case, methods, kept)
        patients.append(facts)
        if out is not None:
            for kind, z in {"": None, "_worst": worst_of(facts)}.items():
                path = out / f"{label}_{name}{kind}.png"
                write_picture(path, case, images, facts, z)
                pictures.append(path.name)
    if out is not None and write_reliability(out / f"{label}_reliability.png", patients):
        pictures.append(f"{label}_reliability.png")
    return patients, pictures


def run(asked: argparse.Namespace) -> None:
    """Everything, from the command line's settings to the printed tables."""
    if asked.threads is not None and asked.threads >= 1:
        torch.set_num_threads(asked.threads)
    kept = Kept(None if asked.out is None else asked.out / "kept")
    measured = sources(asked, kept)
    methods = plan(asked, torch.get_num_threads(), kept)
    facts = machine(torch.get_num_threads())
    if asked.out is not None:
        asked.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"machine": facts, "settings": _settings(asked), "models": _models(methods)}
    results["sources"] = []
    page = ["# Enhancement against its peers", "", machine_line(facts), "", FAVOUR]
    print(f"{machine_line(facts)}\n{FAVOUR}")
    for source in measured:
        patients, pictures = run_source(source, methods, asked.out, kept)
        tables = all_tables(patients)
        judged = verdicts(patients)
        print("\n".join(["", source.title.upper(), source.note, *(f"\n{table.text()}" for table in tables)]))
        page += ["", f"## {source.title}", "", source.note]
        page += [f"\n{table.markdown()}" for table in tables] + [f"\n![{name}]({name})" for name in pictures]
        results["sources"].append({"title": source.title, "cases": patients, "targets": judged})
        if asked.out is not None:  # after each source: a long run that is stopped leaves what it has
            write_report(asked.out / "results.json", results)
            write_text(asked.out / "results.md", "\n".join(page) + "\n")


def _settings(asked: argparse.Namespace) -> dict[str, Any]:
    """The command line without folders, which name people and machines."""
    given = vars(asked) | {"model": [Path(model) for model in asked.model]}
    given["images"] = [text.partition("=")[0] for text in asked.images]
    return json.loads(json.dumps(given, default=lambda value: Path(value).name))


def _models(methods: Sequence[Method]) -> list[dict[str, Any]]:
    return [
        {"label": ours.label, "sha256": ours.model.entry.sha256, "steps": ours.steps}
        for ours in methods
        if isinstance(ours, Ours)
    ]


def main() -> None:
    """Run; a problem that the user can mend is one sentence and exit code 2."""
    with one_sentence():
        run(arguments())


if __name__ == "__main__":
    main()
