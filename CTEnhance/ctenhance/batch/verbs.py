"""What a batch does with each case: how a verb reads its input, what it gives, and where that goes.

An object of these goes to every worker: it holds settings and no data.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

import ctenhance
from ctenhance.batch.case import INDEX, Case
from ctenhance.core.report import ReportBuilder, Result, plain
from ctenhance.files.finished import file_sha256
from ctenhance.options import DecomposeOptions, DegradeOptions, EnhanceOptions, ReconstructOptions
from ctenhance.runtime.files import stem_of
from ctenhance.runtime.progress import Cancellable, Progress

if TYPE_CHECKING:
    from ctenhance.core.volume import CTVolume
    from ctenhance.scan.projections import Projections

#: What does not change the result, or by rounding only.
_NOT_ASKED = ("device", "engine", "seed", "model", "model_projection", "model_image")


@dataclass(frozen=True)
class Verb:
    """One verb with its settings.

    `recorded` is what the report of a finished case says of its making (`finished.settings_of`), the same for
    all cases.
    """

    options: Any
    recorded: Mapping[str, Any]

    name: ClassVar[str]
    #: Whether its cases are CTs (else projections), and its results are CTs on the grid of the input.
    takes_ct: ClassVar[bool] = True
    gives_ct: ClassVar[bool] = True

    @classmethod
    def of(cls, options: Any) -> Any:
        """The verb with these options.

        Raises InputError for a model, engine or device that is not there, and for what the model cannot do.
        """
        return cls(options, {"verb": cls.name, **cls.made_by(options)})

    @classmethod
    def made_by(cls, options: Any) -> dict[str, Any]:
        """The part of `recorded` that is the verb's own."""
        raise NotImplementedError

    def asked(self, case: Case) -> dict[str, Any]:
        """What the report of this case must say."""
        return {**self.recorded, "slices": case.slices}

    def outputs(self, case: Case) -> dict[str, Path]:
        """Where its images go, by their names; the first stands for all."""
        raise NotImplementedError

    def read(self, case: Case, progress: Progress, cancel: Cancellable) -> Any:
        """The input; raises InputError as the readers do."""
        return _volume(case)

    def identity(self, source: Any, progress: Progress, cancel: Cancellable) -> dict[str, Any]:
        """What says which input it is, and nothing of whose."""
        return {
            **source.identity(),
            "origin": list(source.origin),
            "direction": source.direction.tolist(),
        }

    def notes(self, source: Any) -> list[str]:
        """What the reader noted."""
        return list(source.meta.get("notes", []))

    def run(
        self, source: Any, case: Case, identity: Mapping[str, Any], progress: Progress, cancel: Cancellable
    ) -> Result:
        """Do the work."""
        raise NotImplementedError

    def pair(self, source: Any, result: Result) -> tuple[CTVolume, CTVolume] | None:
        """The volumes before and after, for a picture and measures of quality; None where there are none."""
        return (source, next(iter(result.volumes.values()))) if self.gives_ct else None


class Enhance(Verb):
    """`ctenhance enhance`."""

    name = "enhance"
    options: EnhanceOptions

    @classmethod
    def made_by(cls, options: EnhanceOptions) -> dict[str, Any]:
        from ctenhance.enhancement.inference import decide

        model, decided = decide(options)
        model.engine(options.engine, options.device, decided.steps or 1)
        entry = {"model": model.entry.name, "weights": model.entry.sha256}
        return {**entry, "seed": options.seed, **decided.settings()}

    def outputs(self, case: Case) -> dict[str, Path]:
        maps = ("uncertainty",) if self.options.uncertainty else ()
        return {"enhanced": case.output, **_beside(case, maps)}

    def run(
        self, source: Any, case: Case, identity: Mapping[str, Any], progress: Progress, cancel: Cancellable
    ) -> Result:
        return ctenhance.enhance(source, options=self.options, progress=progress, cancel=cancel)


class Degrade(Verb):
    """`ctenhance degrade`, with a seed of its own for each input: else all would be degraded alike.

    The seed follows from the user's and the input's voxels, so that an input is degraded in the same way
    whatever it is called and whatever else is in the folder.
    """

    name = "degrade"
    options: DegradeOptions

    @classmethod
    def made_by(cls, options: DegradeOptions) -> dict[str, Any]:
        from ctenhance.runtime.device import pick_device

        pick_device(options.device)
        return {"model": None, "weights": None, "seed_of_all": options.seed, **options.settings()}

    def outputs(self, case: Case) -> dict[str, Path]:
        return {"degraded": case.output}

    def run(
        self, source: Any, case: Case, identity: Mapping[str, Any], progress: Progress, cancel: Cancellable
    ) -> Result:
        spelled = f"{self.options.seed} {identity['sha256']}".encode()
        seed = int.from_bytes(hashlib.sha256(spelled).digest()[:4], "big")
        options = dataclasses.replace(self.options, seed=seed)
        return ctenhance.degrade(source, options=options, progress=progress, cancel=cancel)


@dataclass(frozen=True)
class Compared:
    """The volumes of a comparison, by what they are."""

    volumes: Mapping[str, CTVolume]


class Compare(Verb):
    """`ctenhance compare` of each case with the one of the same name in other folders (`Case.beside`)."""

    name = "compare"
    gives_ct = False

    @classmethod
    def made_by(cls, options: Any) -> dict[str, Any]:
        return {"model": None, "weights": None, "asked": dict(options)}

    def outputs(self, case: Case) -> dict[str, Path]:
        return {"metrics": case.output.with_name(f"{stem_of(case.output)}.metrics.json")}

    def read(self, case: Case, progress: Progress, cancel: Cancellable) -> Compared:
        volumes = {"before": _volume(case)}
        for name in ("after", "reference"):
            if name in case.beside:
                path = case.beside[name]
                volumes[name] = ctenhance.read(path, where=case.where if path.is_dir() else None)
        return Compared(volumes)

    def identity(self, source: Compared, progress: Progress, cancel: Cancellable) -> dict[str, Any]:
        return {name: volume.identity() for name, volume in source.volumes.items()}

    def notes(self, source: Compared) -> list[str]:
        return [
            f"{name}: {note}" for name, one in source.volumes.items() for note in one.meta.get("notes", [])
        ]

    def run(
        self,
        source: Compared,
        case: Case,
        identity: Mapping[str, Any],
        progress: Progress,
        cancel: Cancellable,
    ) -> Result:
        from ctenhance import quality

        builder = ReportBuilder("compare")
        builder.input = dict(identity)
        volumes = (source.volumes["before"], source.volumes["after"], source.volumes.get("reference"))
        metrics = quality.compare(*volumes, progress, cancel)
        for doubt in quality.doubts_of_pair(*volumes):
            builder.warn(doubt)
        builder.details = {"metrics": metrics}
        return Result(report=builder.finish())

    def pair(self, source: Compared, result: Result) -> tuple[CTVolume, CTVolume] | None:
        return source.volumes["before"], source.volumes["after"]


class OfProjections(Verb):
    """What `reconstruct` and `decompose` have in common."""

    takes_ct = False
    gives_ct = False

    def read(self, case: Case, progress: Progress, cancel: Cancellable) -> Any:
        path = case.files[0] if len(case.files) == 1 else case.files[0].parent
        return ctenhance.read_projections(path, progress, cancel)

    def identity(self, source: Any, progress: Progress, cancel: Cancellable) -> dict[str, Any]:
        return {**source.identity(progress, cancel), "scan": _scan(source)}

    def notes(self, source: Any) -> list[str]:
        return []  # they are among the warnings of the report


def _scan(source: Projections) -> str:
    """A hash of all numbers of a scan but its readings: once its geometry is mended, it is another input."""
    numbers = {name: value for name, value in source.meta.items() if type(value) in (int, float)}
    for one in dataclasses.fields(source):
        if one.name not in ("geometry", "counts", "line_integrals", "meta"):
            numbers[one.name] = getattr(source, one.name)
    digest = hashlib.sha256(source.geometry.encode())
    for name, value in sorted(numbers.items()):
        if value is not None:
            digest.update(name.encode() + np.asarray(value, "<f8").tobytes())
    return digest.hexdigest()


class Reconstruct(OfProjections):
    """`ctenhance reconstruct`."""

    name = "reconstruct"
    options: ReconstructOptions

    @classmethod
    def made_by(cls, options: ReconstructOptions) -> dict[str, Any]:
        from ctenhance.choices import IMAGE_ARCHITECTURES, PROJECTION_ARCHITECTURES
        from ctenhance.reconstruction.models import IMAGE_DEFAULT, PROJECTION_DEFAULT
        from ctenhance.runtime import weights
        from ctenhance.runtime.engines.choice import pick_engine

        stages = max({"fbp": 0, "projection": 1, "need": 2}[options.method], int(options.all_stages))
        networks = [
            (options.model_projection, PROJECTION_DEFAULT, PROJECTION_ARCHITECTURES),
            (options.model_image, IMAGE_DEFAULT, IMAGE_ARCHITECTURES),
        ][:stages]
        entries = [
            weights.find(weights.default_name(default) if model is None else model, known)[1]
            for model, default, known in networks
        ]
        pick_engine(options.engine, options.device, all(entry.onnx for entry in entries))
        return {
            "model": entries[-1].name if entries else None,
            "weights": entries[-1].sha256 if entries else None,
            "networks": [entry.sha256 for entry in entries],
            "seed": options.seed,
            "asked": _asked(options),
        }

    def outputs(self, case: Case) -> dict[str, Path]:
        maps = [name for name in ("uncertainty", "residual") if getattr(self.options, name)]
        stages = ("fbp", "projection") if self.options.all_stages else ()
        return {"reconstruction": case.output, **_beside(case, (*stages, *maps))}

    def run(
        self, source: Any, case: Case, identity: Mapping[str, Any], progress: Progress, cancel: Cancellable
    ) -> Result:
        return ctenhance.reconstruct(source, options=self.options, progress=progress, cancel=cancel)


class Decompose(OfProjections):
    """`ctenhance decompose` of projections: a folder of maps a case."""

    name = "decompose"
    options: DecomposeOptions

    @classmethod
    def made_by(cls, options: DecomposeOptions) -> dict[str, Any]:
        from ctenhance.decomposition.products import image_names
        from ctenhance.decomposition.scatter.correction import scatter_method

        image_names(options)  # refuses materials that are not known
        method = scatter_method(options.scatter, options.scatter_ratio, options.grid_ratio)
        entry = None if method is None else method.entry
        asked = _asked(options)
        if options.calibration is not None:
            asked["calibration"] = file_sha256(Path(str(options.calibration)))
        return {
            "model": None if entry is None else entry.name,
            "weights": None if entry is None else entry.sha256,
            "seed": options.seed,
            "asked": asked,
        }

    def outputs(self, case: Case) -> dict[str, Path]:
        from ctenhance.decomposition.products import image_names

        folder = case.output.with_name(stem_of(case.output))
        return {name: folder / f"{name}.nii.gz" for name in image_names(self.options)}

    def run(
        self, source: Any, case: Case, identity: Mapping[str, Any], progress: Progress, cancel: Cancellable
    ) -> Result:
        return ctenhance.decompose(source, options=self.options, progress=progress, cancel=cancel)


def _volume(case: Case) -> CTVolume:
    """The CT of a case, with the notes that reading its whole folder has, too."""
    volume = ctenhance.read(case.files, where=case.where)
    if INDEX in case.beside:
        from ctenhance.files.dicom.provenance import note_of_missing  # pydicom takes a while to load

        known, series = volume.meta.get("sop_instance_uids", ()), volume.meta.get("series_instance_uid", "")
        if note := note_of_missing(case.beside[INDEX], known, series):
            volume.meta["notes"] = [*volume.meta.get("notes", []), note]
    return volume


def _beside(case: Case, names: Sequence[str]) -> dict[str, Path]:
    """Where further images of a case go."""
    stem = stem_of(case.output)
    return {name: case.output.with_name(f"{stem}.{name}.nii.gz") for name in names}


def _asked(options: Any) -> dict[str, Any]:
    asked = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    known: dict[str, Any] = plain(
        {
            name: dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value  # type: ignore[arg-type]
            for name, value in asked.items()
            if name not in _NOT_ASKED
        }
    )
    return known


VERBS = {verb.name: verb for verb in (Enhance, Degrade, Compare, Decompose, Reconstruct)}
