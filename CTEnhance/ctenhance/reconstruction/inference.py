"""The cascade: projections in, a volume out. FBP; SPDiff and FBP; or both guides through DGDiff (NEED).

Slices stream through in batches; no stage holds more of the scan than a batch and its neighbours."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ctenhance.choices import DEFAULT_KERNEL, DEFAULT_METHOD, DEFAULT_RECONSTRUCT_STEPS
from ctenhance.core.report import ReportBuilder, Result
from ctenhance.core.stack import ImageStack
from ctenhance.options import ReconstructOptions, chosen
from ctenhance.physics.fbp import fbp
from ctenhance.physics.geometry import ScanGeometry
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.physics.projector import project
from ctenhance.physics.truncation import beyond
from ctenhance.physics.units import MU_WATER_PER_MM, hu_to_mu, mu_to_hu
from ctenhance.physics.water import WaterCorrection
from ctenhance.reconstruction import dgdiff, spdiff
from ctenhance.reconstruction.abreast import Abreast
from ctenhance.reconstruction.consistency import Consistency
from ctenhance.reconstruction.dgdiff import HU_SCALE
from ctenhance.reconstruction.models import Model, load_image_model, load_projection_model, on_engine
from ctenhance.reconstruction.readings import Counts, Scan, counts_of, read_scan, water_correction
from ctenhance.runtime.device import free_memory, halvings, with_memory_fallback
from ctenhance.runtime.engines.base import AUTO, OPENVINO, TORCH, Engine
from ctenhance.runtime.engines.choice import pick_engine
from ctenhance.runtime.progress import Cancellable, Progress, check
from ctenhance.runtime.seeds import generator
from ctenhance.scan.attenuation_level import scale_warning
from ctenhance.scan.geometry_check import tell_geometry
from ctenhance.scan.projections import Projections
from ctenhance.scan.truncation import truncation_warning

MAPS = ("uncertainty", "residual")
#: Steps of both diffusions in each draw for an uncertainty map.
SAMPLE_STEPS = 2
MOST_SLICES = 8
#: Pixels that are so many columns wide may be why an image departs from the readings.
COARSE = 1.1
#: By their stage, "projection" and "image", ready on an engine.
Networks = dict[str, Callable[..., torch.Tensor]]


@dataclass
class _Guides:
    """One slice after the projection domain: its counts and `measured` line integrals `[view, column]`, l
    `[y, x]` and r `[draw, y, x]` in HU; draw 0 is the result's own."""

    counts: Counts
    measured: torch.Tensor
    low: torch.Tensor
    initial: torch.Tensor


class Cascade:
    """One set of options on one engine, slices in order; `networks` by their stage, "projection" and "image".

    `truncated`: whether the body reaches beyond the detector and is continued there. `abreast`: the threads
    that run the networks, each on slices of its own."""

    def __init__(
        self,
        projections: Projections,
        geometry: ScanGeometry,
        grid: ImageGrid,
        scan: Scan,
        mu_water: float,
        water: WaterCorrection | None,
        truncated: bool,
        options: ReconstructOptions,
        networks: Networks,
        engine: Engine,
        abreast: Abreast,
        cancel: Cancellable | None,
    ) -> None:
        self.projections, self.geometry, self.grid, self.scan = projections, geometry, grid, scan
        self.mu_water, self.water, self.truncated = mu_water, water, truncated
        self.options, self.device, self.cancel = options, torch_device(engine), cancel
        self.abreast, self.networks = abreast, networks

    def _between(self) -> None:
        check(self.cancel)

    def guides(self, start: int, stop: int) -> list[_Guides]:
        """Slices `start` to `stop` through the projection domain and FBP."""
        rows = self.projections.n_rows
        first, last = max(start - 1, 0), min(stop + 1, rows)
        part = self.projections.rows(first, last)
        counts = counts_of(part, self.scan, self.device)
        line_integrals = part.to_line_integrals()[start - first : stop - first].to(self.device)
        check(self.cancel)
        sinograms = [line_integrals[:, None]]
        if "projection" in self.networks:
            abouts = spdiff.about_all(counts.detected, counts.air, self.scan.electronic)
            denoised = self.abreast.map(
                lambda z: self._denoised(counts, abouts, z - first, z), range(start, stop)
            )
            sinograms.append(torch.stack(list(denoised)))
        integrals = torch.cat(sinograms, 1)
        if self.water is not None:
            integrals = self.water.corrected(integrals)
        outside = beyond(integrals, self.geometry, self.mu_water) if self.truncated else None
        images = fbp(integrals, self.geometry, self.grid, self.options.kernel, self.cancel, outside)
        images = mu_to_hu(images, self.mu_water)
        return [
            _Guides(
                counts.of(slice(z - first, z - first + 1)),
                integrals[z - start, 0],
                images[z - start, 0],
                images[z - start, 1:],
            )
            for z in range(start, stop)
        ]

    def _denoised(self, counts: Counts, abouts: spdiff.About, index: int, z: int) -> torch.Tensor:
        """Line integrals `[draw, view, column]` of slice z, which is number `index` of `counts`."""
        measured = spdiff.readings(counts.detected, counts.air, self.scan.electronic, index)
        near = abouts.near(index)
        draws = []
        for draw in range(1 + self.options.draws):
            steps = self._steps(self.options.projection_steps, draw)
            random = generator(self.options.seed, z, draw, 0)
            network = self.networks["projection"]
            draws.append(spdiff.sample(network, measured, steps, random, self._between, near)[0])
        return torch.stack(draws)

    @staticmethod
    def _steps(steps: int, draw: int) -> int:
        """Diffusion steps of a draw; 0 is the result itself, the others are for the uncertainty map."""
        return steps if draw == 0 else max(SAMPLE_STEPS, steps)

    def image(self, near: list[_Guides], z: int) -> torch.Tensor:
        """The image stage's draws `[draw, y, x]` in HU of the middle one of three slices."""
        images = []
        low = torch.stack([g.low for g in near])[None] / HU_SCALE
        for draw in range(1 + self.options.draws):
            steps = self._steps(self.options.image_steps, draw)
            initial = torch.stack([g.initial[draw] for g in near])[None] / HU_SCALE
            expected = draw == 0 and steps == 1
            shape = (dgdiff.TURNS if expected else steps, 1, 1, *low.shape[-2:])
            noise = torch.randn(shape, generator=generator(self.options.seed, z, draw, 1)).to(self.device)
            network = self.networks["image"]
            image = (
                dgdiff.expect(network, initial, low, noise, self._between)
                if expected
                else dgdiff.sample(network, initial, low, steps, noise, self._between)
            )
            images.append(image[0, 0] * HU_SCALE)
        return torch.stack(images)

    def slices(self, batch: int) -> Iterator[tuple[int, _Guides, torch.Tensor]]:
        """Every slice in order: its number, its guides, and the result's draws `[draw, y, x]` in HU."""
        rows = self.projections.n_rows
        waiting: dict[int, _Guides] = {}
        following = 0
        for start in range(0, rows, batch):
            stop = min(start + batch, rows)
            waiting.update(zip(range(start, stop), self.guides(start, stop), strict=True))
            # a slice has to wait for the one above it
            whole = range(following, rows if stop == rows else max(following, stop - 1))
            results = self.abreast.map(lambda z: self._result(waiting, z), whole)
            for z, result in zip(whole, results, strict=True):
                yield z, waiting[z], result
                waiting.pop(z - 1, None)
            following = whole.stop

    def _result(self, guides: Mapping[int, _Guides], z: int) -> torch.Tensor:
        """The result's draws `[draw, y, x]` in HU of slice z, of its guides and its neighbours'."""
        if self.options.method == "need":
            last = self.projections.n_rows - 1
            return self.image([guides[min(max(z + k, 0), last)] for k in (-1, 0, 1)], z)
        return guides[z].initial if self.options.method == "projection" else guides[z].low[None]

    def residual(self, guides: _Guides, result: torch.Tensor) -> torch.Tensor:
        """What the data say and the result does not, as an image in HU: FBP of (measured - projected)."""
        again = project(hu_to_mu(result, self.mu_water), self.geometry, self.grid, self.cancel)
        image = fbp(guides.measured - again, self.geometry, self.grid, self.options.kernel, self.cancel)
        return image * (1000 / self.mu_water)


def reconstruct(
    projections: Projections,
    *,
    method: str = DEFAULT_METHOD,
    kernel: str = DEFAULT_KERNEL,
    image_size: int | tuple[int, int] | None = None,
    pixel_mm: float | None = None,
    fov_mm: float | None = None,
    all_stages: bool = False,
    uncertainty: bool = False,
    residual: bool = False,
    samples: int | None = None,
    model_projection: str | Path | None = None,
    model_image: str | Path | None = None,
    projection_steps: int = DEFAULT_RECONSTRUCT_STEPS,
    image_steps: int = DEFAULT_RECONSTRUCT_STEPS,
    device: str = "auto",
    engine: str = AUTO,
    seed: int = 0,
    options: ReconstructOptions | None = None,
    progress: Progress | None = None,
    cancel: Cancellable | None = None,
) -> Result:
    """Reconstruct a scan: `.volumes["reconstruction"]` in HU, with `all_stages` also "fbp" and "projection".

    `method`: fbp; projection (SPDiff, then FBP); need (both guides through DGDiff). `kernel`: one of
    `choices.KERNELS`. `image_size` with `pixel_mm` or `fov_mm` (the larger side): the image, as the file
    suggests otherwise. `uncertainty` adds `.maps["uncertainty"]`, the SD in HU over `samples` draws (4 unless
    given); `residual` adds `.maps["residual"]`, what the data say and the result does not. Models are
    registry names or weights files; `projection_steps` and `image_steps` are those of their diffusions, 1 to
    10; `engine`: what runs them, of `choices.ENGINES`. Where the file holds the beam's spectrum, water's beam
    hardening is corrected. `options`: all of these in one object, in place of the keywords. The report holds
    the dose estimate and how consistent the result is with the data. Raises InputError for settings and
    projections that cannot be, Cancelled when asked to stop."""
    options = chosen(
        options,
        ReconstructOptions(
            method=method,
            kernel=kernel,
            image_size=image_size,
            pixel_mm=pixel_mm,
            fov_mm=fov_mm,
            all_stages=all_stages,
            uncertainty=uncertainty,
            residual=residual,
            samples=samples,
            model_projection=model_projection,
            model_image=model_image,
            projection_steps=projection_steps,
            image_steps=image_steps,
            device=device,
            engine=engine,
            seed=seed,
        ),
    )
    grid = projections.image_grid(options.image_size, options.pixel_mm, options.fov_mm)
    geometry = projections.scan_geometry()
    cut = truncation_warning(projections, geometry, grid)
    models = _models(options)
    selected = pick_engine(options.engine, options.device, all(model.entry.onnx for model in models.values()))
    selected.settle(all(model.entry.onnx.get("bfloat16") for model in models.values()))
    place = torch_device(selected)
    n_readings = projections.n_views * projections.n_columns
    most = min(MOST_SLICES, projections.n_rows, _affordable(place, n_readings, grid.rows * grid.columns))
    early = _soon(models, selected, most)
    options = replace(options, image_size=grid.shape, pixel_mm=grid.pixel_mm, fov_mm=None)
    report = ReportBuilder("reconstruct", options.settings(), place, options.seed)
    report.input = projections.identity(progress, cancel)
    for note in (*projections.notes(progress, cancel), *([cut] if cut else [])):
        report.warn(note)
    if options.samples is not None and not options.uncertainty:
        report.warn("Samples are drawn for an uncertainty map, and none was asked for: none were drawn.")
    entries = [model.entry for model in models.values()]
    if entries:
        report.model(entries[-1])
        report.details["models"] = [
            {"name": entry.name, "version": entry.version, "sha256": entry.sha256} for entry in entries
        ]
    geometry_found = tell_geometry(projections, report, cancel)
    mu_water = projections.water_mu_per_mm
    if mu_water is None:
        mu_water = MU_WATER_PER_MM
        if projections.effective_spectra is None:
            report.warn(f"The projections lack 'water_mu_per_mm': {mu_water} per mm was taken for 0 HU.")
    water = water_correction(projections, mu_water)
    report.details["water_correction"] = "none" if water is None else "from the file's effective_spectra"
    with report.stage("dose"):
        scan = read_scan(projections)
    report.details["dose_estimate"] = scan.describe()
    if "projection" in models and not scan.plausible:
        report.warn(
            f"The readings have {scan.noise:.2g} times the noise (variance) that their counts tell: the "
            f"noise was believed, and {scan.quanta:.3g} quanta a ray in air; check the air counts."
        )
    if "projection" in models and scan.beyond_training:
        report.warn(
            f"The scan has about {scan.quanta:.0f} quanta a ray in air, fewer than the networks were trained "
            "on: look at the uncertainty and the residual."
        )

    def run(where: torch.device, batch: int) -> tuple[ImageStack, dict[str, Any]]:
        report.device, runner = where, selected.at(where)
        report.engine = runner if models else None
        threads = _threads(runner, batch)
        networks = early.result() if early and batch == most else _ready(models, runner, threads)
        with torch.inference_mode(), Abreast(threads if networks else 1) as abreast:
            cascade = Cascade(
                projections,
                geometry,
                grid,
                scan,
                mu_water,
                water,
                cut is not None,
                options,
                networks,
                runner,
                abreast,
                cancel,
            )
            return _all_slices(cascade, batch, progress)

    with report.stage("reconstruct"):
        output, agreement = with_memory_fallback(run, halvings(most, 1), place, report.warn)
    # an image of a wrong geometry may still agree with itself
    level = geometry_found["attenuation_level_hu"]
    off_scale = scale_warning(output.arrays["reconstruction"], projections, level)
    if off_scale is not None:
        report.warn(off_scale)
        geometry_found.setdefault("values_warning", off_scale)
    right = geometry_found["consistent"] and agreement["consistent"] and off_scale is None
    report.details["data_consistency"] = agreement | geometry_found | {"consistent": right}
    if not agreement["consistent"]:
        fine, coarse = geometry.isocenter_pitch_mm, ""
        if grid.pixel_mm > COARSE * fine:
            coarse = (
                f"pixels of {grid.pixel_mm:.3g} mm are coarser than the columns ({fine:.3g} mm at the "
                "isocentre) and do not hold all that was measured; ask for smaller ones, or "
            )
        report.warn(
            "The result departs from the measured projections by more than their noise allows "
            f"({agreement['departure']:.2f} SD, {agreement['allowed']:.2f} allowed; most in slice "
            f"{agreement['worst_row'] + 1}): {coarse}look at the residual."
        )
    volumes = {name: projections.volume(array, grid) for name, array in output.arrays.items()}
    maps = {name: volumes.pop(name) for name in list(volumes) if name in MAPS}
    return Result(volumes, maps, report.finish())


def torch_device(engine: Engine) -> torch.device:
    """Where projections and images are computed when the networks run on `engine`."""
    return engine.device if engine.name == TORCH else torch.device("cpu")


def _threads(engine: Engine, batch: int) -> int:
    """How many slices of a batch the networks see side by side: on a CPU, OpenVINO gives each thread one."""
    return min(batch, engine.threads or 1) if engine.name == OPENVINO else 1


def _ready(models: Mapping[str, Model], engine: Engine, threads: int) -> Networks:
    return {stage: on_engine(model, engine, threads) for stage, model in models.items()}


def _soon(models: Mapping[str, Model], engine: Engine, batch: int) -> Future[Networks] | None:
    """The networks, compiled for OpenVINO while the scan is being looked at; None for torch's, which must
    only fit their weights by then."""
    if not models or engine.name != OPENVINO:
        for model in models.values():
            _ = model.network
        return None
    pool = ThreadPoolExecutor(1)
    coming = pool.submit(_ready, models, engine, _threads(engine, batch))
    pool.shutdown(wait=False)
    return coming


def _models(options: ReconstructOptions) -> dict[str, Model]:
    """The networks that the options ask for, by their stage."""
    models = {}
    if options.method != "fbp" or options.all_stages:
        models["projection"] = load_projection_model(options.model_projection)
    if options.method == "need":
        models["image"] = load_image_model(options.model_image)
    return models


def _affordable(device: torch.device, n_readings: int, n_pixels: int) -> int:
    """Slices that fit into a quarter of the free memory: sinograms refined for FBP, images, the networks'
    features of one slice at a time."""
    return max(1, int(free_memory(device) / 4 / (4 * (18 * n_readings + 8 * n_pixels))))


def _all_slices(cascade: Cascade, batch: int, progress: Progress | None) -> tuple[ImageStack, dict[str, Any]]:
    """The images, and how well the result agrees with the data."""
    rows, options = cascade.projections.n_rows, cascade.options
    output = ImageStack((rows, *cascade.grid.shape))
    agreement = Consistency(
        cascade.geometry, cascade.grid, cascade.scan.electronic, cascade.mu_water, cascade.water
    )
    if progress is not None:
        progress("reconstruct", 0, rows)
    waiting: list[tuple[Counts, torch.Tensor, torch.Tensor]] = []
    for z, guides, result in cascade.slices(batch):
        check(cascade.cancel)
        output.put("reconstruction", z, result[0])
        if options.all_stages:
            output.put("fbp", z, guides.low)
            output.put("projection", z, guides.initial[0])
        if options.uncertainty:
            output.put("uncertainty", z, result[1:].std(0))
        if options.residual:
            output.put("residual", z, cascade.residual(guides, result[0]))
        waiting.append((guides.counts, result[:1], guides.low[None]))
        # together, as the rays' places are worked out once for all of them
        if len(waiting) == batch or z + 1 == rows:
            counts, results, low = zip(*waiting, strict=True)
            agreement.add(Counts.of_all(counts), torch.cat(results), torch.cat(low), cascade.cancel)
            waiting.clear()
        if progress is not None:
            progress("reconstruct", z + 1, rows)
    return output, agreement.describe()
