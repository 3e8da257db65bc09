"""Making a study: the folder that readers get, and the sealed key that they do not."""

from __future__ import annotations

import json
import os
import secrets
from datetime import datetime, timezone
from pathlib import Path

from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import folder_when_done, write_text
from ctenhance.runtime.progress import Cancellable, Progress, check, silent
from ctenhance.study import blinding
from ctenhance.study.design import Design
from ctenhance.study.fields import sha256_of
from ctenhance.study.images import SUFFIX, TIME_STAMP, blinded, read_case, write_copy
from ctenhance.study.key import Key, KeyCase
from ctenhance.study.likeness import Likeness
from ctenhance.study.study_file import (
    IMAGE_FOLDER,
    PRACTICE,
    RECORD_FOLDER,
    STUDY_FILE,
    Study,
    Trial,
)  # fmt: skip
from ctenhance.study.truth import require_lesions_in


def default_key_path(folder: str | os.PathLike[str]) -> Path:
    """Return where the key goes unless the owner says otherwise: beside the study folder."""
    path = Path(folder)
    return path.with_name(f"{path.name}-key.json")


def create(
    design: Design,
    folder: str | os.PathLike[str],
    key_path: str | os.PathLike[str] | None = None,
    *,
    salt: str | None = None,
    doubts: list[str] | None = None,
    progress: Progress | None = None,
    cancel: Cancellable | None = None,
) -> Study:
    """Make the study folder (not there yet) and its key (beside the folder unless a path is given).

    Every image is read, checked and written as a blinded copy (see `images`), so this takes about as long as
    copying them. `salt` is for reproducing a study from its key; it is drawn otherwise, and then even the
    same seed gives another order. To `doubts` a sentence is added for each case whose images hardly look like
    one body, for images that are there twice, and for lesions that are hardly where they are said to be.
    Raises InputError for images that cannot be read or do not fit together, a lesion outside of its image (or
    in the air, where it is in the body once x and y are turned) or larger than it, an existing folder or key,
    and a key path inside the study folder; CTEnhanceError when the disk is full; Cancelled. Nothing is left
    behind then.
    """
    report = silent if progress is None else progress
    target = Path(folder)
    key_target = default_key_path(target) if key_path is None else Path(key_path)
    check_targets(target, key_target)
    seed = secrets.randbits(63) if design.seed is None else design.seed
    salt = secrets.token_hex(16) if salt is None else salt
    everything = (*design.cases, *design.practice)
    names = [
        f"{one}{SUFFIX}"
        for one in blinding.image_ids(
            len(everything) * len(design.arms), blinding.stream(seed, salt, "names")
        )
    ]
    likeness, found = Likeness(), list[str]()
    with folder_when_done(target) as partial:
        (partial / IMAGE_FOLDER).mkdir()
        (partial / RECORD_FOLDER).mkdir()
        images: dict[str, tuple[str, int]] = {}
        cases: list[KeyCase] = []
        for number, case in enumerate(everything):
            report("images", number, len(everything))
            volumes = read_case(case, cancel)
            own = dict(zip(design.arms, names[number * len(design.arms) :], strict=False))
            grid = volumes[design.arms[0]]
            found += require_lesions_in(case, grid)
            arrays = blinded(volumes, cancel)
            likeness.add(case.name, arrays, grid.spacing)
            # In the order of their names: times that cannot be set (of creation) must not tell the arms
            # apart.
            for arm in sorted(own, key=lambda arm: own[arm]):
                check(cancel)
                facts = write_copy(arrays[arm], grid, partial / IMAGE_FOLDER / own[arm])
                images[own[arm]] = (facts.sha256, facts.bytes)
            sources = {
                arm: {"file": case.images[arm].name, "sha256": volume.identity()["sha256"]}
                for arm, volume in volumes.items()
            }
            cases.append(KeyCase(case.name, own, sources, case.diseased, case.lesions))
        report("images", len(everything), len(everything))
        os.utime(partial / IMAGE_FOLDER, (TIME_STAMP, TIME_STAMP))
        study_id = secrets.token_hex(8)
        count = len(design.cases)
        key = Key(study_id, seed, salt, design.arms, tuple(cases[:count]), design.truth, tuple(cases[count:]))
        study = Study(
            folder=target,
            id=study_id,
            title=design.title,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            conduct=design.conduct,
            questions=design.questions,
            # By name, which is random: the order of the fields tells nothing.
            images=dict(sorted(images.items())),
            schedule={reader: _trials(design, names, reader, seed, salt) for reader in design.readers},
            key_sha256=sha256_of(key.text()),
        )
        write_text(partial / STUDY_FILE, json.dumps(study.to_json(), indent=1) + "\n")
        check(cancel)
        key.write(key_target)
    if doubts is not None:
        doubts += [*likeness.sentences(), *found]
    return Study.read(target)


def _trials(design: Design, names: list[str], reader: str, seed: int, salt: str) -> tuple[Trial, ...]:
    conduct = design.conduct
    rng = blinding.stream(seed, salt, "order", reader)
    sittings = blinding.readings(
        len(design.cases), len(design.arms), conduct.present == "pair", conduct.sessions, rng
    )
    if design.repeats:
        everything = [showing for sitting in sittings for showing in sitting]
        sittings.append(blinding.repeated(everything, design.repeats, rng))
    shown = [(session, showing) for session, sitting in enumerate(sittings, start=1) for showing in sitting]
    if design.practice:
        # From a stream of its own: the order of the cases is the same with and without practice.
        rng = blinding.stream(seed, salt, "practice", reader)
        first = blinding.practice(len(design.practice), len(design.arms), conduct.present == "pair", rng)
        behind = len(design.cases)
        moved = [tuple((behind + case, arm) for case, arm in showing) for showing in first]
        shown = [*((PRACTICE, showing) for showing in moved), *shown]
    return tuple(
        Trial(number, session, tuple(names[case * len(design.arms) + arm] for case, arm in showing))
        for number, (session, showing) in enumerate(shown, start=1)
    )


def check_targets(folder: Path, key: Path) -> None:
    """Raise InputError where a study or its key cannot be made, before anything is."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            f"Cannot make the study '{folder}': something is there already; choose another name."
        )
    if not folder.parent.is_dir():
        raise InputError(f"Cannot make the study '{folder}': the folder '{folder.parent}' does not exist.")
    if key.exists():
        raise InputError(
            f"The key '{key}' exists already; move it away or choose another name, keys must not get lost."
        )
    if not key.parent.is_dir() and key.parent != folder:
        raise InputError(f"Cannot write the key '{key}': the folder '{key.parent}' does not exist.")
    if folder.resolve() in key.resolve().parents:
        raise InputError(
            f"The key '{key}' must not lie in the study folder, where readers see it; choose another place."
        )
