"""The enhancing networks: what is known of each architecture, and how it becomes ready to run.

torch is imported only where a network is built with it: exported ones run without."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctenhance.choices import DEFAULT_ENHANCE_STEPS
from ctenhance.runtime import weights
from ctenhance.runtime.engines.base import OPENVINO, Engine, Network, in_two_parts
from ctenhance.runtime.engines.choice import pick_engine
from ctenhance.runtime.weights import WeightsEntry

if TYPE_CHECKING:
    from torch import nn

#: Network units: 1 is 1000 HU.
HU_SCALE = 1000.0


@dataclass(frozen=True)
class Kind:
    """What the pipeline must know of an architecture: sides are whole multiples of `multiple` pixels; a pixel
    of the output depends on none further away than `reach` pixels; a stochastic one takes a slice of unit
    noise beside the slices."""

    multiple: int
    reach: int
    stochastic: bool = False


#: By architecture. The reach of the one-step network: two 3 x 3 convolutions on each of five grids on the way
#: down and of four on the way up, in cells of 2 to 32 pixels (2 · 31 + 2 · 15), and the 15 cells that a pixel
#: may lie from the corner of its coarsest one: 107 of 2 pixels, rounded up to whole multiples.
KINDS = {"twin": Kind(32, 224), "residual-diffusion": Kind(64, 1 << 20, True)}
#: The network of the last run, where it is kept for the next one.
_kept: dict[tuple[Any, ...], Network] | None = None
#: One that is being loaded for the next run, and what it is loaded for; nothing where that failed.
_coming: Future[tuple[tuple[Any, ...], Network] | None] | None = None


def keep_networks() -> None:
    """Keep the network of a run for the next, for a process that runs one after the other, never two at once:
    to load it takes half a second."""
    global _kept
    _kept = {} if _kept is None else _kept


def bring(choose: Callable[[], tuple[Model, Engine, int]]) -> None:
    """Load, beside other work, the network that the next run will ask for: `choose` gives its model, engine
    and steps. What is wrong with them that run finds itself."""
    global _coming

    def load() -> tuple[tuple[Any, ...], Network] | None:
        try:
            model, engine, steps = choose()
            # torch's is made on the device that has room for it
            return (model._key(engine, steps), model._on(engine, steps)) if engine.name == OPENVINO else None
        except Exception:
            return None

    pool = ThreadPoolExecutor(1)
    _coming = pool.submit(load)
    pool.shutdown(wait=False)


def _brought(key: tuple[Any, ...]) -> Network | None:
    global _coming
    coming, _coming = _coming, None
    found = None if coming is None else coming.result()
    return found[1] if found is not None and found[0] == key else None


@dataclass
class Model:
    """Checked weights of a whole model, with the registry name or the path that they were asked for by."""

    entry: WeightsEntry
    source: str | Path

    @property
    def kind(self) -> Kind:
        """What the pipeline must know of it."""
        return KINDS[self.entry.architecture]

    @property
    def stochastic(self) -> bool:
        """Whether it draws noise."""
        return self.kind.stochastic

    @property
    def multiple(self) -> int:
        """Its sides are whole multiples of this."""
        return self.kind.multiple

    @cached_property
    def module(self) -> nn.Module:
        """The network in torch, on the CPU. InputError where the weights do not fit their architecture."""
        from ctenhance.enhancement.networks import ARCHITECTURES, build

        return weights.load_model(self.source, ARCHITECTURES, build).network

    def engine(self, spec: str, device: str, steps: int) -> Engine:
        """The engine that runs it; raises InputError as `pick_engine` does."""
        fits = not self.stochastic or steps == DEFAULT_ENHANCE_STEPS
        why_not = ""
        if self.entry.onnx and not fits:  # to export it again gives the same steps
            why_not = (
                f"The exported form of '{self.entry.name}' for OpenVINO has {DEFAULT_ENHANCE_STEPS} steps, "
                f"not {steps}: leave --steps out, or choose --engine torch."
            )
        engine = pick_engine(spec, device, bool(self.entry.onnx) and fits, why_not)
        engine.settle(bool(self.entry.onnx.get("bfloat16")))
        return engine

    def at_once(self, engine: Engine) -> int:
        """How many of its calls an engine runs side by side: on a CPU, OpenVINO gives each thread slices of
        its own. A stochastic one is too large for that."""
        return (engine.threads or 1) if engine.name == OPENVINO and not self.stochastic else 1

    def on(self, engine: Any, steps: int) -> Network:
        """What it adds to the middle of three slices, ready on an engine; a stochastic one takes the noise as
        its second input."""
        key = self._key(engine, steps)
        if _kept is None:
            return _brought(key) or self._on(engine, steps)
        if key not in _kept:
            _kept.clear()
            _kept[key] = self._on(engine, steps)
        return _kept[key]

    def _key(self, engine: Any, steps: int) -> tuple[Any, ...]:
        return (self.entry.sha256, engine.name, str(engine.device), engine.precision, engine.threads, steps)

    def _on(self, engine: Any, steps: int) -> Network:
        if engine.name == OPENVINO:
            exported = engine.network(
                weights.exported(self.entry.name), self.entry.name, self.at_once(engine)
            )
            return exported if self.stochastic else lambda x: exported(*in_two_parts(x))
        from ctenhance.enhancement.networks import Change

        return engine.network(Change(self.module, steps))


def load_model(model: str | Path | None = None) -> Model:
    """The model named `model` in the registry, of a weights file, or the default one.

    Raises InputError where the weights are unknown, damaged, or those of another task.
    """
    source = weights.default_name("enhance") if model is None else model
    _, entry = weights.find(source, KINDS)
    return Model(entry, source)
