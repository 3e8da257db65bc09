"""The methods that the benchmark runs on each patient, behind one shape: a label, a key that tells one
setting from another, and `run`, from a patient to that method's slices."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from cases import Case
from ctenhance.choices import DEFAULT_ENHANCE_STEPS, ENHANCE_ARCHITECTURES
from ctenhance.core.volume import CTVolume
from ctenhance.enhancement.bank import own_noise
from ctenhance.enhancement.draws import Draws
from ctenhance.enhancement.inference import WHOLE_SIDE
from ctenhance.enhancement.models import Model, load_model
from ctenhance.enhancement.sampler import Sampler, fitted
from ctenhance.enhancement.slices import SliceEnhancer
from ctenhance.runtime import weights
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import replace_when_done, write_text
from kept import Store, digest
from peers import SHOWN_HU, Fixed, Peer, fixed, tuned

Array = np.ndarray

INPUT, PEER, CEILING, TRAINED, OURS = "input", "peer", "ceiling", "trained peer", "ours"
#: Images that another program or an older build made of the same inputs.
OTHER = "other program"


@dataclass
class Done:
    """A method's slices of a patient by index, its `setting` in words, the median seconds a slice, and for
    draws their SD `spread` (HU, with the model's factor) by slice."""

    images: dict[int, Array]
    setting: str = ""
    seconds: float | None = None
    spread: dict[int, Array] = field(default_factory=dict)


class Method:
    """A method: `kind` is one of the above, `label` its name in the tables."""

    label: str
    kind: str

    def key(self) -> dict[str, Any]:
        """What its slices depend on beside the patient."""
        return {"label": self.label}

    def run(self, case: Case) -> Done:
        """Its slices of a patient."""
        raise NotImplementedError


@dataclass
class Input(Method):
    """What every method starts from."""

    label: str = INPUT
    kind: str = INPUT

    def run(self, case: Case) -> Done:
        return Done({z: case.degraded[z] for z in case.chosen})


@dataclass
class Filtered(Method):
    """A filter, at the strength that is best on the very slices (the ceiling of what it can do), or at one
    that was found on the validation patients: then `strength`."""

    peer: Peer
    most_slices: int | None = None
    strength: Fixed | None = None

    def __post_init__(self) -> None:
        self.kind = CEILING if self.strength is None else PEER
        self.label = f"{self.peer.name}, slice-tuned" if self.strength is None else self.peer.name

    def key(self) -> dict[str, Any]:
        found = None if self.strength is None else self.strength.setting
        most = self.most_slices if self.peer.one_slice else None  # no other filter asks for it
        return {"label": self.label, "strength": found, "most": most}

    def slices_of(self, chosen: Sequence[int]) -> tuple[int, ...]:
        """The slices that it is run on: all, or for a slow filter the middle of each part."""
        if not self.peer.one_slice or self.most_slices is None or self.most_slices >= len(chosen):
            return tuple(chosen)
        parts = np.array_split(np.asarray(chosen), self.most_slices)
        return tuple(int(part[len(part) // 2]) for part in parts)

    def run(self, case: Case) -> Done:
        noise_hu = own_noise(case.degraded[list(case.chosen)])
        at = self.slices_of(case.chosen)
        if self.strength is None:
            low, high = ([volume[z] for z in at] for volume in (case.degraded, case.reference))
            best = tuned(self.peer, low, high, noise_hu)
        else:
            best = self.strength.at(noise_hu)
        images, seconds = _timed(lambda z: best(case.degraded[z]), at)
        return Done(images, best.setting, seconds)


@dataclass
class Given(Method):
    """Images `<patient>.nii.gz` in a folder, made by another program or an older build of the same inputs."""

    label: str
    folder: Path
    kind: str = OTHER

    def key(self) -> dict[str, Any]:
        files = sorted(self.folder.glob("*.nii.gz"))
        data = hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files))
        return {"label": self.label, "files": data.hexdigest()}

    def run(self, case: Case) -> Done:
        file = self.folder / f"{case.name}.nii.gz"
        if not file.is_file():
            raise InputError(f"{self.label}: '{self.folder.name}' holds no {file.name}.")
        array = CTVolume.read(file).array
        if array.shape != case.degraded.shape:
            raise InputError(
                f"{self.label}: {file.name} is {array.shape} and the patient's slices are "
                f"{case.degraded.shape}: it has to be made of the same input."
            )
        return Done({z: np.asarray(array[z], np.float32) for z in case.chosen})


@dataclass
class Trained(Method):
    """A peer's network, trained on the project's own pairs by `train_peers.py`."""

    path: Path

    def __post_init__(self) -> None:
        from train_peers import load

        self.kind = TRAINED
        self.network, self.entry = load(self.path)
        self.label = self.entry.name

    def key(self) -> dict[str, Any]:
        return {"label": self.label, "sha256": self.entry.sha256}

    def run(self, case: Case) -> Done:
        images, seconds = _timed(lambda z: self.slice_of(case.degraded, z), case.chosen)
        return Done(images, f"version {self.entry.version}", seconds)

    def slice_of(self, stack: Array, z: int) -> Array:
        """Slice z of a stack HU `[z, y, x]`, `[y, x]`."""
        near = [max(z - 1, 0), z, min(z + 1, len(stack) - 1)]
        x = np.clip(stack[near], *SHOWN_HU) / 1000
        rows, columns = x.shape[1:]
        x = np.pad(x, ((0, 0), (0, -rows % 32), (0, -columns % 32)), mode="edge")
        with torch.inference_mode():
            found = self.network(torch.from_numpy(x[None].astype(np.float32)))
        return found[0, 0, :rows, :columns].numpy() * 1000


@dataclass
class Ours(Method):
    """One of the project's models, as `enhance` runs it, with the mean of `draws`; `sampler` in place of the
    fitted one of `steps`."""

    name: str
    model: Model
    steps: int
    draws: int = 1
    sampler: Sampler | None = None
    kind: str = OURS

    def __post_init__(self) -> None:
        self.label = self.name
        if self.draws > 1:
            self.label += f", mean of {self.draws}"
        if self.sampler is not None:
            self.label += f", {self.sampler}"

    def key(self) -> dict[str, Any]:
        return {"label": self.label, "sha256": self.model.entry.sha256, "steps": self.steps}

    def for_volume(self, spacing_mm: float, seed: int = 0) -> SliceEnhancer:
        """The model, ready for slices that are `spacing_mm` apart."""
        if self.sampler is None:
            network = self.model.on(self.model.engine("auto", "cpu", self.steps), self.steps)
        else:
            from ctenhance.enhancement.networks import Change

            engine = self.model.engine("torch", "cpu", self.steps)
            network = engine.network(Change(self.model.module, self.sampler))
        return SliceEnhancer(self.model, network, WHOLE_SIDE, seed, spacing_mm)

    def run(self, case: Case) -> Done:
        enhancer = self.for_volume(case.spacing[2])
        spread: dict[int, Array] = {}

        def one(z: int) -> Array:
            found = Draws(self.model.stochastic)
            for draw in range(self.draws):
                found.add(enhancer(case.degraded, z, draw))
            if self.draws > 1 and found.sd is not None:
                spread[z] = found.sd * np.float32(self.model.entry.spread_factor(self.draws))
            return found.mean

        images, seconds = _timed(one, case.chosen)
        return Done(images, f"steps {self.steps}", seconds, spread)


@dataclass(frozen=True)
class Plain(Sampler):
    """DDIM's even steps (Song et al. 2021), or with `fresh` noise at each step DDPM's (Ho et al. 2020)."""

    fresh: bool = False

    @classmethod
    def of(cls, steps: int, fresh: bool) -> Plain:
        """The sampler of so many steps."""
        angles = tuple(math.pi / 2 * (1 - (k + 0.5) / steps) for k in range(steps))
        return cls(angles, (1.0,) * (steps - 1), fresh)

    def __str__(self) -> str:
        return f"{'DDPM' if self.fresh else 'DDIM'} {len(self.angles)}"

    def draw(
        self, velocity: Callable[[torch.Tensor, float], torch.Tensor], noise: torch.Tensor
    ) -> torch.Tensor:
        if not self.fresh:
            return super().draw(velocity, noise)
        z, generator = noise, torch.Generator().manual_seed(0)
        for here, after in zip(self.angles, (*self.angles[1:], 0.0), strict=True):
            v = velocity(z, here)
            clean = math.cos(here) * z - math.sin(here) * v
            rest = math.sin(here) * z + math.cos(here) * v
            kept = math.sin(after) ** 2
            share = kept / math.sin(here) ** 2 * (1 - (math.cos(here) / math.cos(after)) ** 2)
            z = math.cos(after) * clean + math.sqrt(max(0.0, kept - share)) * rest
            z = z + math.sqrt(share) * torch.randn(z.shape, generator=generator)
        return z


def our_models(paths: Sequence[str], steps: int | None, only: Sequence[str] | None, draws: int) -> list[Ours]:
    """Every enhancing model of the registry (or those in `only`), then the weights files `paths`: one draw of
    each, and of one that draws also the mean of `draws`. Raises InputError where one cannot be loaded."""
    names = [entry.name for entry in weights.entries() if entry.architecture in ENHANCE_ARCHITECTURES]
    names = names if only is None else list(only)
    found = [(name, load_model(name)) for name in names]
    for path in paths:
        model = load_model(path)
        found.append((f"{model.entry.architecture} ({Path(path).stem})", model))
    result: list[Ours] = []
    for label, model in found:
        same = sum(ours.name.split(" #")[0] == label for ours in result if ours.draws == 1)
        name = f"{label} #{same + 1}" if same else label
        count = (steps or DEFAULT_ENHANCE_STEPS) if model.stochastic else 1
        if model.stochastic:
            fitted(count)
        result.append(Ours(name, model, count))
        if draws > 1:
            result.append(Ours(name, model, count, draws))
    return result


def other_samplers(models: Sequence[Ours], steps: Sequence[int]) -> list[Ours]:
    """The same networks under plain samplers of these numbers of steps."""
    drawing = [ours for ours in models if ours.model.stochastic and ours.draws == 1]
    return [
        Ours(ours.name, ours.model, count, 1, Plain.of(count, fresh), TRAINED)
        for ours in drawing
        for count in steps
        for fresh in (False, True)
    ]


def tuned_on(peer: Peer, cases: Sequence[Case], kept: Store | None = None) -> Fixed:
    """A peer at the strength that is best over the slices of several patients together; found once where
    `kept` has a folder."""
    low, high, noise = [], [], []
    for case in cases:
        middle = case.chosen[len(case.chosen) // 2] if peer.one_slice else None
        at = case.chosen if middle is None else (middle,)
        own = own_noise(case.degraded[list(case.chosen)])
        low += [case.degraded[z] for z in at]
        high += [case.reference[z] for z in at]
        noise += [own] * len(at)

    def search() -> dict[str, Any]:
        found = fixed(peer, low, high, noise)
        (name,) = (name for name, run in peer.variants.items() if run is found.filter)
        return {"variant": name, "strength": found.strength, "setting": found.setting}

    kept = Store(None) if kept is None else kept
    found = kept.facts({"validation": digest(*low, *high), "peer": peer.name}, search)
    return Fixed(peer.variants[found["variant"]], found["strength"], found["setting"])


def _timed(run: Callable[[int], Array], at: Sequence[int]) -> tuple[dict[int, Array], float]:
    """The images at these slices, and the median of the seconds that one takes."""
    images, seconds = {}, []
    for z in at:
        start = time.perf_counter()
        images[z] = np.asarray(run(z), np.float32)
        seconds.append(time.perf_counter() - start)
    return images, median(seconds)


class Kept(Store):
    """Slices and figures of earlier runs in a folder: what is there under the same key is not done again."""

    def _paths(self, source: str, case: Case, method: Method) -> tuple[Path, str] | None:
        slices = list(case.chosen)
        data = digest(case.degraded[slices], case.reference[slices])
        facts = {"source": source, "slices": slices, "data": data, **method.key()}
        path = self.path(facts)
        return None if path is None else (path, json.dumps(facts, sort_keys=True))

    def get(self, source: str, case: Case, method: Method) -> tuple[Done, dict[str, Any]] | None:
        """Slices and figures, or None where they are still to be made."""
        paths = self._paths(source, case, method)
        if paths is None or not paths[0].with_suffix(".json").exists():
            return None
        record = json.loads(paths[0].with_suffix(".json").read_text(encoding="utf-8"))
        with np.load(paths[0].with_suffix(".npz")) as held:
            images, spread = ({int(k[1:]): held[k] for k in held.files if k[0] == kind} for kind in "is")
        return Done(images, record.get("setting", ""), record.get("seconds"), spread), record

    def put(self, source: str, case: Case, method: Method, done: Done, record: dict[str, Any]) -> None:
        """Keep them; the figures last, so that a run that is stopped leaves nothing by halves."""
        paths = self._paths(source, case, method)
        if paths is None:
            return
        arrays = {f"i{z}": image for z, image in done.images.items()}
        arrays |= {f"s{z}": image for z, image in done.spread.items()}
        with replace_when_done(paths[0].with_suffix(".npz")) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        write_text(paths[0].with_suffix(".json"), json.dumps({**record, "key": paths[1]}))
