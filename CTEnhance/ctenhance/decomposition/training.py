"""Training the scatter network from material images, without scatter labels.

Counts with scatter are corrected by the network, decomposed by maximum likelihood and reconstructed; the
error of the material images goes back through the reconstruction and the implicit derivative of the
decomposition to the network (in the manner of "End-to-End Differentiable Photon Counting CT", arXiv
2602.11497). The images to reach are those of the same object without scatter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ctenhance.decomposition.chain import material_images
from ctenhance.decomposition.images import vmi_weights
from ctenhance.decomposition.scatter.amount_training import tabulated, train_amount
from ctenhance.decomposition.scatter.network import (
    ARCHITECTURE,
    SPR_KNOWN,
    CoarseModel,
    CoarseScan,
    ScatterNet,
    limited,
    network_scatter,
)
from ctenhance.decomposition.scatter.scans import (
    AIR_QUANTA,
    BASIS,
    ScatterScan,
    build_scans,
    load_scans,
)
from ctenhance.decomposition.solver.layer import Decomposer
from ctenhance.runtime import weights
from ctenhance.runtime.progress import Cancellable, Progress, check
from ctenhance.runtime.weights import WeightsEntry
from ctenhance.training.loop import (
    Settings,
    Validate,
    first_process_first,
    fit,
    training_volumes,
    weights_entry,
)
from ctenhance.training.options import ScatterTraining

#: The scanner's SPR behind water, the object's own that it may lead to, and quanta in air of a training ray
#: (some hundred of a scan's).
WATER_SPRS, OBJECT_SPRS, QUANTA = (0.03, 0.8), (0.03, 0.33), (3e6, 3e8)
#: The shares of drawn scans whose amount of scatter, and whose anti-scatter grid, is known.
KNOWN, GRID_KNOWN = 0.6, 0.5
#: Ways in which each scan is drawn. More scans teach more than more ways: each has a scanner of its own, and
#: which one a network soon knows by the object.
WAYS = 2
VALIDATION_SPRS = (0.08, 0.2, 0.5)
#: Errors (relative, SD) of the air counts in all bins together and in each, and of known SPRs.
AIR_ERROR, BIN_ERROR, SPR_ERROR = 1e-3, 3e-4, 0.03
#: What of iodine (mg/mL) and of HU at 70 keV counts alike in the loss, and an error that is small enough.
IODINE_UNIT, HU_UNIT, SMALL_ERROR = 0.3, 30.0, 0.03
LABEL_SMALL = 0.003
_KEV = 70.0
_VALIDATION_SCANS = 10
_CPU = torch.device("cpu")
#: Errors of images are averaged over a square of this side before they count as bias.
BIAS_MM = 30.0


@dataclass(frozen=True)
class _Beam:
    """What is prepared once for all scans of one beam."""

    decomposer: Decomposer
    coarse: CoarseModel


class Chain:
    """Counts to images for scans of a bank; beams are prepared when first met."""

    def __init__(self) -> None:
        self._beams: dict[bytes, _Beam] = {}
        self._to_hu = vmi_weights(BASIS, _KEV)

    def _beam(self, scan: ScatterScan) -> _Beam:
        key = scan.spectra.numpy().tobytes()
        if key not in self._beams:
            spectra = scan.spectra * AIR_QUANTA
            self._beams[key] = _Beam(
                Decomposer(BASIS, spectra, scan.energies_kev), CoarseModel(spectra, scan.energies_kev)
            )
        return self._beams[key]

    def coarse(
        self,
        scan: ScatterScan,
        spr: float,
        quanta: float,
        known: bool,
        rng: np.random.Generator,
        grid_known: bool = False,
    ) -> CoarseScan:
        """What the network sees of a scan at an SPR and so many quanta in air, the scanner's amount
        of scatter and its anti-scatter grid being known or not."""
        gains = 1 + rng.normal(0, AIR_ERROR) + rng.normal(0, BIN_ERROR, scan.primary.shape[-1])
        expected = (scan.primary + spr * scan.scatter).double() * (quanta * torch.from_numpy(gains))
        counts = torch.from_numpy(rng.poisson(expected.numpy())).double()
        water = float(scan.water_spr) * spr * math.exp(rng.normal(0, SPR_ERROR)) if known else None
        model = self._beam(scan).coarse
        if scan.fluence is not None:
            model = model.with_fluence(scan.fluence)
        grid = float(scan.grid_ratio) * math.exp(rng.normal(0, SPR_ERROR))
        grid_ratio = grid if grid_known and math.isfinite(grid) else None
        return model(counts * (AIR_QUANTA / quanta), scan.geometry, water, grid_ratio)

    def images(self, scan: ScatterScan, spr: float, scatter: torch.Tensor | None) -> torch.Tensor:
        """Maps in g/cm³ `[material, row, column]` of the scan's mean counts with `scatter` (relative to air,
        `[view, column, bin]`) allowed for; differentiable in it."""
        counts = (scan.primary + spr * scan.scatter) * AIR_QUANTA
        if scan.fluence is not None:  # without noise, it is only a factor of each column
            counts = counts / scan.fluence[:, None]
            scatter = None if scatter is None else scatter / scan.fluence[:, None]
        # were all counts scatter, the decomposition would end at its limit, where there is no gradient
        known = None if scatter is None else limited(scatter * AIR_QUANTA, counts, 1.0)
        return material_images(
            counts, self._beam(scan).decomposer, scan.geometry, scan.grid, scatter=known, tolerance=1e-3
        )

    def errors(self, images: torch.Tensor, scan: ScatterScan) -> tuple[torch.Tensor, torch.Tensor]:
        """Errors of iodine in mg/mL and of the image at 70 keV in HU, in the body, `[pixel]` each."""
        difference = images - scan.reference
        body = scan.reference[0] > 0.1
        hu = torch.tensordot(self._to_hu.to(difference), difference, 1)
        return 1000 * difference[1][body], hu[body]

    def bias(self, images: torch.Tensor, scan: ScatterScan) -> tuple[float, float]:
        """Mean size of the errors after averaging over neighbours: iodine in mg/mL, HU."""
        side = max(1, round(BIAS_MM / scan.grid.pixel_mm)) | 1
        size = (side, 1, side // 2)
        smooth = F.avg_pool2d((images - scan.reference)[None], *size)[0] + scan.reference
        iodine, hu = self.errors(smooth, scan)
        return float(iodine.abs().mean()), float(hu.abs().mean())


def predicted(
    network: Callable[..., torch.Tensor], coarse: CoarseScan, scan: ScatterScan, device: torch.device
) -> torch.Tensor:
    """The network's scatter `[view, column, bin]`, a quantum in air of the brightest column, on the CPU."""
    found = network_scatter(network, coarse, device)
    return found if scan.fluence is None else found * float(scan.fluence.mean())


def object_spr(scan: ScatterScan, water_spr: float) -> float:
    """Scatter by primary counts behind the middle of the scan's object, of a scanner with that SPR behind
    water."""
    return float(np.clip(water_spr / float(scan.water_spr), *OBJECT_SPRS))


def bias_that_goes(scans: Sequence[ScatterScan], chain: Chain) -> Validate:
    """How much of the bias goes on held-out scans (medians, parts of one): 'iodine' and 'hu' where the
    scanner's SPR and grid are known, '…_ratio' where only the SPR is, '…_unknown' where neither is, and
    'score', their mean."""
    cases = []
    for index, scan in enumerate(scans):
        for spr in (object_spr(scan, of_water) for of_water in VALIDATION_SPRS):
            before = chain.bias(chain.images(scan, spr, None), scan)
            for suffix, known, grid_known in (
                ("", True, True),
                ("_ratio", True, False),
                ("_unknown", False, False),
            ):
                rng = np.random.default_rng((7, index))
                coarse = chain.coarse(scan, spr, 3e7, known, rng, grid_known)
                cases.append((scan, spr, suffix, coarse, before))

    def validate(network: nn.Module, device: torch.device) -> dict[str, float]:
        network.eval()
        left: dict[str, list[float]] = {}
        for scan, spr, suffix, coarse, before in cases:
            with torch.no_grad():
                found = predicted(network, coarse, scan, device)
                after = chain.bias(chain.images(scan, spr, found), scan)
            for what, a, b in zip(("iodine", "hu"), after, before, strict=True):
                left.setdefault(what + suffix, []).append(a / b)
        cut = {name: 1 - float(np.median(parts)) for name, parts in left.items()}
        return {"score": sum(cut.values()) / len(cut), **cut}

    return validate


def train_scatter(
    data_dir: str | Path,
    run_dir: str | Path,
    options: ScatterTraining,
    progress: Progress | None = None,
    cancel: Cancellable | None = None,
) -> Path:
    """Train the scatter network on the volumes of `data_dir`; returns the weights file of its best state.

    Scans of the volumes are drawn into `run_dir` first. `options.validation` is a folder of volumes of other
    patients. Raises InputError where nothing can be trained on, Cancelled when asked to stop."""
    settings = Settings.of(
        options,
        learning_rate=5e-4,  # at 1e-3 the maps' limits swallowed a network after some 2,500 steps
        ema=0.995,
        report_every=50,
        validate_every=250,
    )
    run_dir, seed = Path(run_dir), options.seed
    torch.manual_seed(seed)
    with first_process_first():
        volumes = training_volumes(Path(data_dir), options.exclude)
        files = build_scans(volumes, run_dir / "scans", seed, options.scans_per_volume, progress, cancel)
    scans = load_scans(files)
    chain = Chain()
    validate = None
    if options.validation is not None:
        with first_process_first():
            volumes = training_volumes(Path(options.validation), ())
            kept = build_scans(volumes, run_dir / "validation", seed + 1, 3, cancel=cancel)
        held_out = load_scans(kept)
        validate = bias_that_goes(held_out[:: max(1, len(held_out) // _VALIDATION_SCANS)], chain)
    network = ScatterNet()
    if options.start is not None:
        network.load_state_dict(weights.load(options.start, [ARCHITECTURE])[0])

    bank = _Bank(scans, chain, seed, options.labels)

    def loss(model: nn.Module, step: int, rank: int, where: torch.device) -> torch.Tensor:
        rng = np.random.default_rng((seed, 3, step, rank))
        drawn = zip(*(rng.integers(n, size=options.batch).tolist() for n in (len(scans), WAYS)), strict=True)
        return torch.stack([bank.error(index, way, where, model) for index, way in drawn]).mean()

    names = sorted({scan.name.split(":")[0] for scan in scans if ":" in scan.name})
    entry = weights_entry(ARCHITECTURE, {}, names)
    folder = run_dir / ("labels" if options.labels else "images")
    if options.start is None:
        _learn_amount(network, bank, folder / "amount", settings, entry, progress, cancel)
    network.amount.requires_grad_(False)
    return fit(network, loss, folder, settings, entry, validate, progress, cancel)


class _Bank:
    """Scans as they are drawn for the network, kept, and what its maps lead to: the error of material images,
    or of scatter (`labels`)."""

    def __init__(self, scans: Sequence[ScatterScan], chain: Chain, seed: int, labels: bool) -> None:
        self.scans, self._chain, self._seed, self._labels = scans, chain, seed, labels
        self._drawn: dict[tuple[int, int], tuple[float, CoarseScan]] = {}

    def draw(self, index: int, way: int) -> tuple[float, CoarseScan]:
        """A scan's scatter to primary and what the network sees, in one of its ways."""
        if (index, way) not in self._drawn:
            scan, rng = self.scans[index], np.random.default_rng((self._seed, 4, index, way))
            spr = object_spr(scan, float(np.exp(rng.uniform(*np.log(WATER_SPRS)))))
            quanta = float(np.exp(rng.uniform(*np.log(QUANTA))))
            known, grid_known = bool(rng.random() < KNOWN), bool(rng.random() < GRID_KNOWN)
            coarse = self._chain.coarse(scan, spr, quanta, known, rng, grid_known)
            self._drawn[index, way] = spr, coarse
        return self._drawn[index, way]

    def error(
        self, index: int, way: int, where: torch.device, model: Callable[..., torch.Tensor]
    ) -> torch.Tensor:
        """The error that the model's maps leave."""
        scan, (spr, coarse) = self.scans[index], self.draw(index, way)
        found = predicted(model, coarse, scan, where)
        if self._labels:
            return label_error(found, scan, spr)
        return image_error(self._chain, self._chain.images(scan, spr, found), scan)


def _learn_amount(
    network: ScatterNet,
    bank: _Bank,
    folder: Path,
    settings: Settings,
    entry: WeightsEntry,
    progress: Progress | None,
    cancel: Cancellable | None,
) -> None:
    """Train the part that judges the amount, or take it where it is there."""
    best = folder / "best.safetensors"
    if not best.exists():
        tables = []
        for index in range(len(bank.scans)):
            for way in range(WAYS):
                check(cancel)
                coarse = bank.draw(index, way)[1]
                if not coarse.features[SPR_KNOWN].any():
                    tables.append(tabulated(coarse, partial(bank.error, index, way, _CPU)))
            if progress is not None:
                progress("tabulate amounts", index + 1, len(bank.scans))
        if not tables:
            return
        train_amount(network.amount, tables, folder, settings, entry, progress, cancel)
    with first_process_first():  # which writes them
        network.amount.load_state_dict(weights.load(best, [ARCHITECTURE])[0])


def image_error(chain: Chain, images: torch.Tensor, scan: ScatterScan) -> torch.Tensor:
    """The logarithm of the images' mean error: scans with little scatter count like those with much, and the
    few pixels that rays without quanta streak do not rule."""
    iodine, hu = chain.errors(images, scan)
    size = (iodine / IODINE_UNIT).abs().mean() + (hu / HU_UNIT).abs().mean()
    return (size + SMALL_ERROR).log()


def label_error(found: torch.Tensor, scan: ScatterScan, spr: float) -> torch.Tensor:
    """The same of scatter by counts, behind the object."""
    true = spr * scan.scatter
    counts = scan.primary + true
    behind = counts.sum(-1) < 0.9
    squared = (((found - true) / counts)[behind]).square().mean()
    return 0.5 * (squared + LABEL_SMALL**2).log()
