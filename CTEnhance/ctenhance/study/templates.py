"""Studies that are made ready from scans alone: what is compared is made here.

`realism` asks what SUMI's radiologists were asked of the simulated degradation: of two routine scans side by
side, one real and one made from a better scan by `degrade`, which is the real one?
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ctenhance.core.volume import CTVolume
from ctenhance.degradation import degrade
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import stem_of
from ctenhance.runtime.progress import Cancellable, Progress, check, silent
from ctenhance.runtime.words import counted
from ctenhance.study.design import Case, Design
from ctenhance.study.folders import images_in
from ctenhance.study.questions import preset

TEMPLATES = ("realism",)
REAL, SIMULATED = "real", "simulated"
#: Two scans are shown side by side pixel by pixel, since resampling would change the grain that is asked
#: about: pixels and slice distances that differ by more than these factors are not paired.
MOST_PIXEL, MOST_SPACING = 1.25, 1.6
#: What is the patient, HU.
BODY_HU = -500.0


def realism(
    routine: str | os.PathLike[str],
    quality: str | os.PathLike[str],
    readers: tuple[str, ...],
    place: Path,
    *,
    dose: float | None = None,
    most: int | None = None,
    title: str = "",
    seed: int = 0,
    progress: Progress | None = None,
    cancel: Cancellable | None = None,
) -> tuple[Design, list[str]]:
    """Return the design of a realism study and sentences on scans that were left out.

    `routine` is a folder of real routine scans, `quality` one of scans of higher dose, which are degraded by
    `routine` (at `dose`, else at doses that are drawn). Scans are paired by their pixel size, at most `most`
    pairs, each scan once; both are cut to one matrix round the patient's middle, pixels as they are, and
    written into `place` for `creation.create`. Raises InputError where no two scans can be paired.
    """
    report = silent if progress is None else progress
    pairs, sentences = _paired(_sizes(routine, cancel), _sizes(quality, cancel))
    if not pairs:
        raise InputError(
            f"No scan in '{quality}' has pixels and slices near enough to those of one in '{routine}' "
            f"(within {MOST_PIXEL:g} and {MOST_SPACING:g} times): give scans of more alike protocols."
        )
    # which pairs are taken, where not all are, must not follow their size
    order = np.random.default_rng(seed).permutation(len(pairs))[: most or len(pairs)]
    cases = []
    for number, index in enumerate(sorted(order), start=1):
        check(cancel)
        report("degrade", number - 1, len(order))
        real_path, better_path = pairs[index]
        real, better = CTVolume.read(real_path).axial(), CTVolume.read(better_path).axial()
        drawn = degrade(better, dose=dose, seed=seed + number, device="cpu", cancel=cancel)
        simulated = drawn.volumes["degraded"].array
        shape = tuple(min(a, b) for a, b in zip(real.array.shape, simulated.shape, strict=True))
        images = {}
        for arm, array in ((REAL, real.array), (SIMULATED, simulated)):
            cut = CTVolume(_middle(array, shape), real.spacing)
            stem = stem_of(real_path if arm == REAL else better_path)
            images[arm] = place / f"{number:03d}-{stem}-{arm}.nrrd"
            cut.write(images[arm])
        cases.append(Case(f"pair-{number:02d}", images))
    report("degrade", len(order), len(order))
    ready = preset("realism")
    design = Design(
        title=title or f"Which routine scan is real? {counted(len(cases), 'pair')}",
        arms=(REAL, SIMULATED),
        cases=tuple(cases),
        readers=readers,
        questions=ready.questions,
        truth={question.id: REAL for question in ready.questions},
        seed=seed,
    )
    return design, sentences


def _sizes(folder: str | os.PathLike[str], cancel: Cancellable | None) -> dict[Path, tuple[float, float]]:
    """Pixel size and slice distance in mm of the CTs of a folder, by pixel size."""
    found = {}
    for path in images_in(folder).values():
        check(cancel)
        volume = CTVolume.read(path)
        volume.require_hu()
        x, _, z = volume.axial().spacing
        found[path] = (float(x), float(z))
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _paired(
    first: dict[Path, tuple[float, float]], second: dict[Path, tuple[float, float]]
) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Each of `first` with the nearest of `second` that is left and near enough; and who was left out."""
    left = dict(second)
    pairs, alone = [], []
    for path, (pixel, spacing) in first.items():
        near = {
            other: abs(np.log(size[0] / pixel)) + 0.1 * abs(np.log(size[1] / spacing))
            for other, size in left.items()
            if max(size[0] / pixel, pixel / size[0]) <= MOST_PIXEL
            and max(size[1] / spacing, spacing / size[1]) <= MOST_SPACING
        }
        if near:
            best = min(near, key=lambda other: near[other])
            pairs.append((path, best))
            del left[best]
        else:
            alone.append(path)
    out = [path.name for path in (*alone, *left)]
    sentences = [f"Left out, as no other scan is near enough in size: {', '.join(out)}."] if out else []
    return pairs, sentences


def _middle(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A part of this shape round the middle of the patient."""
    body = array > BODY_HU
    cuts = []
    for axis, size in enumerate(shape):
        others = tuple(k for k in range(3) if k != axis)
        weight = body.sum(others)
        centre = len(weight) // 2
        if axis and weight.any():
            centre = round(float(np.average(np.arange(len(weight)), weights=weight)))
        start = min(max(0, centre - size // 2), array.shape[axis] - size)
        cuts.append(slice(start, start + size))
    return np.ascontiguousarray(array[tuple(cuts)])
