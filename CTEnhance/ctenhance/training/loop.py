"""One resumable training run: the loop that all trainings share.

A run lives in its folder: `checkpoint.safetensors` (network, its moving average, Adam's moments, step and
time spent), `best.safetensors` (the moving average that did best on validation, ready for use), `log.jsonl`
(a line a report). Nothing is pickled. Under `torchrun` the gradients are averaged over the processes and
the first one writes."""

from __future__ import annotations

import json
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from ctenhance.runtime import weights
from ctenhance.runtime.device import pick_device
from ctenhance.runtime.errors import CTEnhanceError, InputError
from ctenhance.runtime.files import replace_when_done, stem_of
from ctenhance.runtime.progress import check
from ctenhance.runtime.weights import WeightsEntry
from ctenhance.training.options import TrainOptions

Batch = TypeVar("Batch")

#: Steps in a row whose loss may be no number.
MOST_STEPS_LOST = 20
#: Below this (in units of 1000 HU) a pair is good enough: the clean ones must not rule the rest.
SMALL_ERROR = 0.003


@dataclass(frozen=True)
class Settings:
    """How the loop runs: it ends after `steps` or `minutes`, whichever comes first; the learning rate falls
    to fit."""

    steps: int = 20000
    minutes: float = math.inf
    learning_rate: float = 6e-4
    ema: float = 0.999
    report_every: int = 100
    validate_every: int = 1000
    seed: int = 0
    resume: bool = True
    device: str = "auto"

    @classmethod
    def of(cls, options: TrainOptions, **others: Any) -> Settings:
        """What a training's options say of the loop, and `others` of these fields."""
        names = ("steps", "minutes", "seed", "resume", "device")
        return cls(**{**{name: getattr(options, name) for name in names}, **others})


#: Loss of a batch; draws the batch of (step, rank) itself.
Loss = Callable[[nn.Module, int, int, torch.device], torch.Tensor]
#: Figures of the moving average on held-out patients; 'score' decides, greater is better.
Validate = Callable[[nn.Module, torch.device], dict[str, float]]


def training_volumes(data_dir: Path, exclude: Sequence[str]) -> list[Path]:
    """The volume files of a folder, at any depth, without those with a part of `exclude` in the names of the
    file or of the folders that lead to it.

    Raises InputError where none is left.
    """
    files = sorted(p for pattern in ("*.nii.gz", "*.nii", "*.nrrd", "*.mha") for p in data_dir.rglob(pattern))
    kept = [f for f in files if not any(part in f.relative_to(data_dir).as_posix() for part in exclude)]
    if not kept:
        raise InputError(
            f"'{data_dir}' holds no NIfTI, NRRD or MHA volumes to train on (after --exclude); save DICOM "
            "series as such files first, one a scan."
        )
    return kept


def weights_entry(architecture: str, arguments: dict[str, Any], volumes: Iterable[str]) -> WeightsEntry:
    """The entry of weights that are being trained on the `volumes` of these names."""
    return WeightsEntry(
        name=architecture,
        file="",
        sha256="",
        licence="see the model card",
        trained_on=", ".join(volumes),
        architecture=architecture,
        arguments=arguments,
        version="1",
        card="",
    )


def bank_names(files: Sequence[Path]) -> list[str]:
    """A name for each volume's part of a bank, unlike all others: its own, and where the volumes lie in
    several folders (one for each patient, with the same file name in all) the folders before it."""
    common = Path(os.path.commonpath([file.parent for file in files])) if files else Path()
    inside = [file.relative_to(common) for file in files]
    names = ["__".join([*path.parent.parts, stem_of(path)]) for path in inside]
    whole = ["__".join(path.parts) for path in inside]  # with its suffix, where a.nii stands beside a.mha
    count = Counter(names)
    return [name if count[name] == 1 else other for name, other in zip(names, whole, strict=True)]


def log_error(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Half the logarithm of each pair's mean squared error, averaged: the PSNR, turned round, in nepers.

    Each pair counts alike, whatever its noise; within a pair an edge missed by 100 HU counts as what it is.
    """
    squared = (output.float() - target).square().flatten(1).mean(1)
    return 0.5 * (squared + SMALL_ERROR**2).log().mean()


class Ahead(Generic[Batch]):
    """Draws the batch of (size, step, rank) with `draw`, and the next step's in a thread beside the
    training."""

    def __init__(self, draw: Callable[[int, int, int], Batch]) -> None:
        self._draw = draw
        self._thread = ThreadPoolExecutor(1)
        self._next: tuple[tuple[int, int, int], Future[Batch]] | None = None

    def __call__(self, size: int, step: int, rank: int = 0) -> Batch:
        asked = (size, step, rank)
        key, future = self._next or (asked, self._thread.submit(self._draw, *asked))
        drawn = future.result()
        if key != asked:
            drawn = self._draw(*asked)
        following = (size, step + 1, rank)
        self._next = (following, self._thread.submit(self._draw, *following))
        return drawn


@dataclass(frozen=True)
class _Processes:
    rank: int
    count: int


def _join_processes() -> _Processes:
    """Join torchrun's process group where there is one."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count > 1 and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return _Processes(int(os.environ.get("RANK", "0")), count)


@contextmanager
def first_process_first() -> Iterator[None]:
    """What is done once for all processes (files that all read) is done by the first, while the others
    wait."""
    processes = _join_processes()
    if processes.rank > 0:
        torch.distributed.barrier()
    yield
    if processes.count > 1 and processes.rank == 0:
        torch.distributed.barrier()


def training_device(spec: str) -> torch.device:
    """The device of this process: `spec`, or under torchrun the graphics card of its local rank."""
    local = os.environ.get("LOCAL_RANK")
    return pick_device(f"cuda:{local}" if local is not None and torch.cuda.is_available() else spec)


def _save_checkpoint(
    path: Path,
    network: nn.Module,
    average: nn.Module,
    optimiser: torch.optim.Optimizer,
    state: dict[str, Any],
) -> None:
    tensors = {f"network.{k}": v for k, v in network.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.state_dict().items()}
    for index, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{k}": torch.as_tensor(v) for k, v in moments.items()}
    # clones: tensors that share memory cannot be stored
    tensors = {k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}
    with replace_when_done(path) as temporary:
        save_file(tensors, str(temporary), metadata={"state": json.dumps(state)})


def _load_checkpoint(
    path: Path, network: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer
) -> dict[str, Any]:
    try:
        with safe_open(str(path), framework="pt") as file:
            state = json.loads((file.metadata() or {})["state"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, KeyError, ValueError) as error:
        raise InputError(
            f"The checkpoint {path} is damaged, or of another program: remove it to begin anew, or name "
            "another run folder."
        ) from error
    parts: dict[str, dict[str, torch.Tensor]] = {"network": {}, "average": {}, "adam": {}}
    for key, value in tensors.items():
        part, name = key.split(".", 1)
        parts[part][name] = value
    try:
        network.load_state_dict(parts["network"])
        average.load_state_dict(parts["average"])
    except RuntimeError as error:
        raise InputError(
            f"The checkpoint {path} belongs to another network: name an empty run folder, or do not resume."
        ) from error
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in parts["adam"].items():
        index, name = key.split(".", 1)
        moments.setdefault(int(index), {})[name] = value
    adam = optimiser.state_dict()
    adam["state"] = moments
    optimiser.load_state_dict(adam)
    return state


def fit(
    network: nn.Module,
    loss: Loss,
    run_dir: Path,
    settings: Settings,
    entry: WeightsEntry,
    validate: Validate | None = None,
    progress: Any = None,
    cancel: Any = None,
) -> Path:
    """Train `network` and return the file of its best moving average.

    `entry` goes into that file (architecture, arguments, what it was trained on). Only parameters that
    require a gradient are trained. Raises Cancelled when asked to stop (the checkpoint is written first),
    InputError where a checkpoint in the folder does not fit, CTEnhanceError where losses stay no numbers."""
    processes = _join_processes()
    first = processes.rank == 0
    device = training_device(settings.device)
    run_dir.mkdir(parents=True, exist_ok=True)
    network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    trained = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=1e-4, betas=(0.9, 0.99))
    average = AveragedModel(network, multi_avg_fn=_moving_average(settings.ema))
    checkpoint, best, log = (
        run_dir / "checkpoint.safetensors",
        run_dir / "best.safetensors",
        run_dir / "log.jsonl",
    )
    state: dict[str, Any] = {"step": 0, "seconds": 0.0, "best": -math.inf}
    if settings.resume and checkpoint.exists():
        state = _load_checkpoint(checkpoint, network, average, optimiser)
    model: nn.Module = network
    if processes.count > 1:
        model = nn.parallel.DistributedDataParallel(network, find_unused_parameters=True)
    half = device.type == "cuda" and torch.cuda.is_bf16_supported()

    def spent() -> float:
        """The share of the training that is done: that of the first process, since clocks differ."""
        share = torch.tensor(
            max(state["step"] / settings.steps, state["seconds"] / 60 / settings.minutes), device=device
        )
        if processes.count > 1:
            torch.distributed.broadcast(share, 0)
        return float(share)

    def keep_best() -> None:
        figures = validate(average.module, device) if validate else {"score": float(state["step"])}
        _write_log(log, {"step": state["step"], **figures})
        if figures["score"] > state["best"]:
            state["best"] = figures["score"]
            weights.save(best, average.module.state_dict(), entry)

    running, started = 0.0, time.monotonic()
    since_report = lost = 0
    try:
        while (fraction := spent()) < 1:
            check(cancel)
            rate = (
                settings.learning_rate
                * min(1.0, (state["step"] + 1) / 200)
                * (0.01 + 0.99 * math.cos(fraction * math.pi / 2) ** 2)
            )
            for group in optimiser.param_groups:
                group["lr"] = rate
            model.train()
            optimiser.zero_grad(set_to_none=True)
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                value = loss(model, state["step"], processes.rank, device)
            value.backward()
            length = nn.utils.clip_grad_norm_(trained, 1.0)
            state["step"] += 1
            # One step that is NaN would make all weights NaN.
            if math.isfinite(float(length)):
                optimiser.step()
                average.update_parameters(network)
                running += float(value.detach())
                since_report += 1
                lost = 0
            else:
                lost += 1
                if lost == MOST_STEPS_LOST:
                    raise CTEnhanceError(
                        f"The training stopped at step {state['step']}: the loss was no number {lost} times "
                        "in a row; look for damaged volumes among the training data."
                    )
            now = time.monotonic()
            state["seconds"] += now - started
            started = now
            if first and state["step"] % settings.report_every == 0:
                _write_log(
                    log,
                    {
                        "step": state["step"],
                        "loss": running / since_report if since_report else None,
                        "rate": rate,
                        "seconds": state["seconds"],
                    },
                )
                running, since_report = 0.0, 0
                if progress is not None:
                    progress("training", min(settings.steps, int(fraction * settings.steps)), settings.steps)
            if first and state["step"] % settings.validate_every == 0:
                keep_best()
                _save_checkpoint(checkpoint, network, average, optimiser, state)
                started = time.monotonic()
        if first:
            keep_best()
    finally:
        if first and state["step"]:
            _save_checkpoint(checkpoint, network, average, optimiser, state)
    return best


def _moving_average(decay: float) -> Callable[..., None]:
    """Exponential moving average whose memory grows with the steps done: it must not drag the first weights
    along."""

    def update(averaged: list[torch.Tensor], current: list[torch.Tensor], count: torch.Tensor) -> None:
        keep = min(decay, (1 + float(count)) / (10 + float(count)))
        torch._foreach_lerp_(averaged, current, 1 - keep)

    return update


def _write_log(path: Path, line: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
