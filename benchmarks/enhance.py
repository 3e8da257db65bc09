"""The project's enhancing models beside tuned total variation, non-local means and BM3D, in one run.

    python benchmarks/enhance.py                              held-out patients of ../shared/data/ct
    python benchmarks/enhance.py --pairs PAIRS --out RESULTS  pairs, real or from make_pairs.py
    python benchmarks/enhance.py --pairs PAIRS --data ../shared/data/ct --model runs/twin/best.safetensors

prints tables and verdicts; `--out` also writes results.json, results.md and a picture a patient. Nothing is
asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import ctenhance
from cases import HELD_OUT, Source, held_out_source, pairs_source
from ctenhance.core.report import write_report
from ctenhance.runtime.errors import CTEnhanceError, InputError
from ctenhance.runtime.files import write_text
from measure import Plan, measure_case, our_models, say
from peers import all_peers
from picture import write_picture
from tables import all_tables, verdicts

REPOSITORY = Path(__file__).resolve().parents[1]
DEFAULT_DATA = REPOSITORY.parent / "shared" / "data" / "ct"
LIBRARIES = ("torch", "monai", "numpy", "scipy", "scikit-image", "bm3d")
FAVOUR = (
    "The strength of every peer is chosen per patient by the PSNR against that patient's own reference, on "
    "the very slices it is measured on (BM3D: on one of them): a favour that the models do not get."
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
    add("--peers", nargs="*", help="peers to take: Gaussian TV NLM BM3D (default: all)")
    add("--threads", type=int, help="CPU threads (default: torch's, which follows OMP_NUM_THREADS)")
    add("--out", type=Path, help="folder for results.json, results.md and pictures")
    return parser.parse_args()


def sources(asked: argparse.Namespace) -> list[Source]:
    """The data that was asked for; InputError where there is none."""
    found = [pairs_source(folder, asked.slices) for folder in asked.pairs]
    data = asked.data
    if data is None and not found:
        data = DEFAULT_DATA
        if not data.is_dir():
            raise InputError("There is no data to measure on: name a folder with --pairs or --data.")
    if data is not None:
        found.append(held_out_source(data, asked.only, asked.slices, asked.dose, asked.seed))
    return found


def plan(asked: argparse.Namespace, threads: int) -> Plan:
    """The methods that were asked for; InputError for unknown ones, and for counts below 1."""
    for name in ("slices", "bm3d_slices", "threads"):
        if getattr(asked, name) is not None and getattr(asked, name) < 1:
            raise InputError(f"--{name.replace('_', '-')} must be at least 1.")
    known = {peer.name: peer for peer in all_peers(threads)}
    names = list(known) if asked.peers is None else asked.peers
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError(f"There is no peer '{unknown[0]}': choose from {', '.join(known)}.")
    models = our_models(asked.model, asked.steps, asked.registered)
    if not models:
        say("No model of the project is registered or named by --model: the peers stand alone.")
    return Plan(models, tuple(known[name] for name in names), asked.bm3d_slices)


def run_source(source: Source, methods: Plan, out: Path | None) -> tuple[list[dict[str, Any]], list[str]]:
    """Measure all patients of a source; returns their figures and the names of the pictures."""
    patients, pictures = [], []
    for number, name in enumerate(source.names):
        say(f"{source.title}, patient {number + 1} of {len(source.names)}: {name}")
        case = source.load(name)
        facts, images = measure_case(case, methods)
        patients.append(facts)
        if out is not None:
            label = "".join(letter if letter.isalnum() else "_" for letter in source.title).strip("_")
            path = out / f"{label}_{name}.png"
            write_picture(path, case, images, facts)
            pictures.append(path.name)
    return patients, pictures


def run(asked: argparse.Namespace) -> None:
    """Everything, from the command line's settings to the printed tables."""
    if asked.threads is not None and asked.threads >= 1:
        torch.set_num_threads(asked.threads)
    methods = plan(asked, torch.get_num_threads())
    facts = machine(torch.get_num_threads())
    if asked.out is not None:
        asked.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"machine": facts, "settings": _settings(asked), "models": _models(methods)}
    results["sources"] = []
    page = ["# Enhancement against its peers", "", machine_line(facts), "", FAVOUR]
    print(f"{machine_line(facts)}\n{FAVOUR}")
    for source in sources(asked):
        patients, pictures = run_source(source, methods, asked.out)
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
    return json.loads(json.dumps(given, default=lambda value: Path(value).name))


def _models(methods: Plan) -> list[dict[str, Any]]:
    return [
        {"label": ours.label, "sha256": ours.model.entry.sha256, "steps": ours.steps}
        for ours in methods.models
    ]


def main(command: Sequence[str] | None = None) -> None:
    """Run; a problem that the user can mend is one sentence and exit code 2."""
    try:
        run(arguments())
    except CTEnhanceError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
