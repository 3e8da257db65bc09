"""The settings of each verb: one frozen object that goes whole from command, panel or script to the report.

    options = EnhanceOptions(strength=0.8, seed=1)
    result = ctenhance.enhance(volume, options=options)
    again = EnhanceOptions.from_report(result.report)

What the fields mean stands with the verb (`help(ctenhance.enhance)`). Settings that cannot be raise
InputError when the object is made; what depends on the model or the data, the verb checks. PyTorch is not
imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from ctenhance import choices
from ctenhance.runtime.errors import InputError, require_one_of
from ctenhance.runtime.words import either

if TYPE_CHECKING:
    from ctenhance.decomposition.calibration.thresholds import DriftCalibration
    from ctenhance.physics.detector import PileUp

Self = TypeVar("Self", bound="Options")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What all verbs take: the device, and the seed of everything that is drawn."""

    device: str = "auto"
    seed: int = 0

    #: The fields that a report says.
    REPORTED: ClassVar[tuple[str, ...]] = ()

    def settings(self) -> dict[str, Any]:
        """The verb's own settings by name, as its report has them."""
        return {name: getattr(self, name) for name in self.REPORTED}

    def _common_arguments(self) -> list[str]:
        return _arguments({"device": self.device, "seed": self.seed})


@dataclass(frozen=True, kw_only=True)
class EnhanceOptions(Options):
    """The settings of `ctenhance.enhance`."""

    REPORTED = ("strength", "keep_faint", "steps", "samples", "uncertainty")

    model: str | Path | None = None
    strength: float = 1.0
    keep_faint: float = 0.0
    steps: int | None = None
    samples: int | None = None
    uncertainty: bool = False
    engine: str = choices.ENGINES[0]

    def __post_init__(self) -> None:
        _check_engine(self.engine)
        if not 0 <= self.strength <= 1:
            raise InputError(
                f"The strength is {self.strength:g}: choose it between 0 (input) and 1 (fully enhanced)."
            )
        if not 0 <= self.keep_faint <= 1:
            raise InputError(
                f"The share of faint structures to keep is {self.keep_faint:g}: choose it between 0 and 1."
            )
        most, default = choices.MOST_ENHANCE_STEPS, choices.DEFAULT_ENHANCE_STEPS
        if self.steps is not None and not 1 <= self.steps <= most:
            raise InputError(
                f"The number of steps is {self.steps}: no model takes more than {most} or fewer than 1; "
                f"leave it out for the default ({default})."
            )
        _check_samples(self.samples, self.uncertainty)

    def to_arguments(self, *, uncertainty: Path | None = None) -> list[str]:
        """The options of `ctenhance enhance`; `uncertainty`: the file for that map, if any."""
        return [
            *_arguments(
                {
                    "model": self.model,
                    "strength": self.strength,
                    "keep-faint": self.keep_faint or None,
                    "steps": self.steps,
                    "samples": self.samples,
                    "uncertainty": _file("uncertainty", self.uncertainty, uncertainty),
                    "engine": self.engine,
                }
            ),
            *self._common_arguments(),
        ]

    @classmethod
    def from_report(cls, report: Mapping[str, Any]) -> EnhanceOptions:
        """The settings of a report, with which the same input gives the same result again.

        A model that came from a file is called by its name in the registry. Raises InputError for what is no
        report of `enhance`."""
        earlier = tuple(name for name in cls.REPORTED if name != "keep_faint")  # older reports do not say it
        settings, seed = _recorded(report, "enhance", earlier)
        settings["keep_faint"] = report["settings"].get("keep_faint", 0.0)
        return cls(**settings, model=_name(report.get("model")), seed=seed)


@dataclass(frozen=True, kw_only=True)
class ReconstructOptions(Options):
    """The settings of `ctenhance.reconstruct`."""

    REPORTED = ("method", "kernel", "image_size", "pixel_mm", "projection_steps", "image_steps")

    method: str = choices.DEFAULT_METHOD
    kernel: str = choices.DEFAULT_KERNEL
    image_size: int | tuple[int, int] | None = None
    pixel_mm: float | None = None
    fov_mm: float | None = None
    all_stages: bool = False
    uncertainty: bool = False
    residual: bool = False
    samples: int | None = None
    model_projection: str | Path | None = None
    model_image: str | Path | None = None
    projection_steps: int = choices.DEFAULT_RECONSTRUCT_STEPS
    image_steps: int = choices.DEFAULT_RECONSTRUCT_STEPS
    engine: str = choices.ENGINES[0]

    def __post_init__(self) -> None:
        _check_engine(self.engine)
        if isinstance(self.image_size, Sequence):
            object.__setattr__(self, "image_size", tuple(self.image_size))
        require_one_of(self.method, choices.METHODS, "reconstruction method")
        require_one_of(self.kernel, choices.KERNELS, "reconstruction kernel")
        for name, count in (("projection", self.projection_steps), ("image", self.image_steps)):
            if not 1 <= count <= choices.MOST_RECONSTRUCT_STEPS:
                raise InputError(
                    f"The number of {name} steps is {count}: choose 1 to {choices.MOST_RECONSTRUCT_STEPS}."
                )
        if self.uncertainty and self.method == "fbp":
            raise InputError("FBP draws nothing, so it has no uncertainty map: choose projection or need.")
        _check_samples(self.samples, self.uncertainty)

    @property
    def draws(self) -> int:
        """The draws for the uncertainty map; 0 where none is asked for."""
        return (self.samples or choices.SPREAD_SAMPLES) if self.uncertainty else 0

    def settings(self) -> dict[str, Any]:
        """The settings by name, as the report has them."""
        return super().settings() | {"samples": self.draws}

    def to_arguments(self, *, uncertainty: Path | None = None, residual: Path | None = None) -> list[str]:
        """The options of `ctenhance reconstruct`; `uncertainty` and `residual` are the files for these maps,
        where they are asked for.

        Raises InputError for an image that is not square, and for a pixel size, which the command lacks."""
        size = self.image_size
        if isinstance(size, tuple):
            if size[0] != size[1]:
                raise InputError("The command makes square images only: give one number as the image size.")
            size = size[0]
        if self.pixel_mm is not None:
            raise InputError("The command takes no pixel size: give the field of view.")
        # What has no effect on the method the command refuses.
        projects, finishes = self.method != "fbp" or self.all_stages, self.method == "need"
        return [
            *_arguments(
                {
                    "method": self.method,
                    "kernel": self.kernel,
                    "matrix": size,
                    "fov": self.fov_mm,
                    "all": self.all_stages,
                    "uncertainty": _file("uncertainty", self.uncertainty, uncertainty),
                    "residual": _file("residual", self.residual, residual),
                    "samples": self.samples,
                    "model-projection": self.model_projection if projects else None,
                    "model-image": self.model_image if finishes else None,
                    "projection-steps": self.projection_steps if projects else None,
                    "image-steps": self.image_steps if finishes else None,
                    "engine": self.engine if projects else None,
                }
            ),
            *self._common_arguments(),
        ]

    @classmethod
    def from_report(cls, report: Mapping[str, Any]) -> ReconstructOptions:
        """The settings of a report: they give the same reconstruction again, and the same uncertainty map.

        Whether other stages and the residual were asked for does not stand there. Raises InputError for what
        is no report of `reconstruct`."""
        values, seed = _recorded(report, "reconstruct", (*cls.REPORTED, "samples"))
        draws = values.pop("samples")
        # the projections' network comes first, then the images'
        models = [_name(model) for model in report.get("details", {}).get("models", ())] + [None, None]
        return cls(
            **values,
            model_projection=models[0],
            model_image=models[1],
            uncertainty=draws > 0,
            samples=draws or None,
            seed=seed,
        )


@dataclass(frozen=True, kw_only=True)
class SpectralOptions(Options):
    """What both ways of decomposing take: the materials, and what is made of their maps."""

    basis: Sequence[str] = choices.BASIS
    vmi: Sequence[float] = ()
    low_noise: bool = False
    guided_maps: bool = False
    vnc: bool = False
    zeff: bool = False
    electron_density: bool = False
    errors: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.basis, str):
            raise InputError(f"The basis '{self.basis}' is one text: give a list of names.")
        if not isinstance(self.vmi, Iterable):
            raise InputError(f"The energies are {self.vmi!r}: give a list of keV, such as [40, 70].")
        # frozen: a list that is changed later must not change what was asked for
        object.__setattr__(self, "basis", tuple(self.basis))
        object.__setattr__(self, "vmi", tuple(self.vmi))


@dataclass(frozen=True, kw_only=True)
class DecomposeOptions(SpectralOptions):
    """The settings of `ctenhance.decompose`."""

    REPORTED = (
        "basis", "vmi", "low_noise", "guided_maps", "vnc", "zeff", "electron_density", "errors", "kernel",
        "scatter", "scatter_ratio", "grid_ratio",
    )  # fmt: skip

    kernel: str = choices.DEFAULT_KERNEL
    image_size: int | None = None
    pixel_mm: float | None = None
    calibration: DriftCalibration | str | Path | None = None
    pile_up: PileUp | None = None
    scatter: str | Path = choices.SCATTER_MODES[0]
    scatter_ratio: float | None = None
    grid_ratio: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of(self.kernel, choices.KERNELS, "reconstruction kernel")

    def settings(self) -> dict[str, Any]:
        """The settings by name, as the report has them."""
        return super().settings() | {"drift_calibration": self.calibration is not None}

    def to_arguments(self) -> list[str]:
        """The options of `ctenhance decompose`.

        Raises InputError for a calibration that is not in a file, and for a pixel size, which the command
        lacks."""
        if not (self.calibration is None or isinstance(self.calibration, str | Path)):
            raise InputError("The command reads a calibration from a file: write it, and give its path.")
        if self.pixel_mm is not None:
            raise InputError("The command takes no pixel size: leave it out.")
        pile_up = self.pile_up
        return [
            *_arguments(
                {
                    "basis": ",".join(self.basis),
                    "vmi": ",".join(str(kev) for kev in self.vmi) or None,
                    "low-noise": self.low_noise,
                    "guided-maps": self.guided_maps,
                    "vnc": self.vnc,
                    "zeff": self.zeff,
                    "electron-density": self.electron_density,
                    "errors": self.errors,
                    "kernel": self.kernel,
                    "matrix": self.image_size,
                    "calibration": self.calibration,
                    "dead-time": None if pile_up is None else 1e9 * pile_up.dead_time_s,
                    "view-time": None if pile_up is None else 1e6 * pile_up.view_time_s,
                    "scatter": self.scatter,
                    "scatter-ratio": self.scatter_ratio,
                    "grid-ratio": self.grid_ratio,
                }
            ),
            *self._common_arguments(),
        ]

    @classmethod
    def from_report(
        cls, report: Mapping[str, Any], *, calibration: DriftCalibration | str | Path | None = None
    ) -> DecomposeOptions:
        """The settings of a report; matrix, pixel size and pile-up do not stand there.

        Raises InputError for what is no report of `decompose`, and for one of a calibrated scan without the
        `calibration`."""
        values, seed = _recorded(report, "decompose", (*cls.REPORTED, "drift_calibration"))
        if values.pop("drift_calibration") and calibration is None:
            raise InputError("The scan of this report was calibrated: name the calibration, too.")
        if values["scatter"] == "network":
            values["scatter"] = _name(report.get("model")) or "network"
        return cls(**values, calibration=calibration, seed=seed)


#: Why what a replay brings along cannot be given beside it.
REPLAYED = (
    "A replay takes preset, dose, photons and HU range from its report: leave them out, or leave the replay "
    "out."
)


@dataclass(frozen=True, kw_only=True)
class DegradeOptions(Options):
    """The settings of `ctenhance.degrade`."""

    REPORTED = ("preset", "dose", "photons", "clip")

    preset: str = choices.DEFAULT_PRESET
    dose: float | None = None
    photons: float | None = None
    clip: tuple[float, float] | None = None
    replay: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.dose is not None and not 0 < self.dose <= 1:
            raise InputError(
                f"The dose {self.dose:g} is no fraction of the volume's own: give one above 0, up to 1."
            )
        if self.photons is not None and not 1e2 <= self.photons <= 1e9:
            raise InputError(
                f"{self.photons:g} photons per ray are none of a CT scan: give a number between 100 and 1e9."
            )
        if self.clip is not None:
            object.__setattr__(self, "clip", tuple(self.clip))
        if self.clip is not None and not self.clip[0] < self.clip[1]:
            raise InputError(
                f"The HU range {self.clip[0]:g} to {self.clip[1]:g} is empty: give the lower end first."
            )
        require_one_of(self.preset, choices.PRESETS, "degradation")
        changed = (self.dose, self.photons, self.clip) != (None, None, None)
        if changed and self.replay is not None:
            raise InputError(REPLAYED)
        if changed and self.preset != choices.DEFAULT_PRESET:
            raise InputError(
                f"The degradation '{self.preset}' is published as it is and takes no dose, photons or clip: "
                "leave them out or choose routine."
            )

    def settings(self) -> dict[str, Any]:
        """The settings by name, as the report has them."""
        return super().settings() | {"replay": self.replay is not None}

    def to_arguments(self, *, replay: Path | None = None) -> list[str]:
        """The options of `ctenhance degrade`; `replay` is the file of the report to replay, if there is one.

        Raises InputError for photons and an HU range, which the command lacks."""
        if (self.photons, self.clip) != (None, None):
            raise InputError("The command takes neither photons nor an HU range: leave them out.")
        values = {
            "preset": self.preset,
            "dose": self.dose,
            "replay": _file("replay", self.replay is not None, replay),
        }
        return [*_arguments(values), *self._common_arguments()]

    @classmethod
    def from_report(cls, report: Mapping[str, Any]) -> DegradeOptions:
        """The settings of a report, with which the same volume is degraded alike.

        Raises InputError for what is no report of `degrade`."""
        values, seed = _recorded(report, "degrade", (*cls.REPORTED, "replay"))
        if values.pop("replay"):
            return cls(replay=report, seed=seed)
        return cls(**values, seed=seed)


def chosen(options: Self | None, keywords: Self) -> Self:
    """The options of a call: `options` where they were given, else those of its keywords.

    Raises TypeError for both: nobody could say which of them holds."""
    if options is None:
        return keywords
    if keywords != type(keywords)():
        raise TypeError("Settings were given both as keywords and as options: give them once.")
    return options


def _check_engine(engine: str) -> None:
    if engine not in choices.ENGINES:
        raise InputError(f"There is no engine called '{engine}'; choose {either(choices.ENGINES)}.")


def _check_samples(samples: int | None, uncertainty: bool) -> None:
    if samples is None:
        return
    if uncertainty and samples < 2:
        raise InputError(
            f"An uncertainty map needs at least 2 samples, and {samples} were asked for: raise --samples."
        )
    if samples < 1:
        raise InputError(f"The number of samples is {samples}: choose 1 or more.")


def _arguments(values: Mapping[str, Any]) -> list[str]:
    """Command-line options of values by name: a switch where one is True, nothing for None and False."""
    found: list[str] = []
    for name, value in values.items():
        if value is True:
            found.append(f"--{name}")
        elif value is not None and value is not False:
            found += [f"--{name}", str(value)]
    return found


def _file(name: str, needed: bool, path: Path | None) -> Path | None:
    if needed and path is None:
        raise ValueError(f"The command wants a file for '{name}': name one.")
    return path if needed else None


def _recorded(report: Mapping[str, Any], verb: str, names: Sequence[str]) -> tuple[dict[str, Any], int]:
    """The settings of these names in a report of `verb`, and its seed."""
    settings, seed = report.get("settings"), report.get("seed")
    if report.get("verb") != verb or not isinstance(settings, Mapping) or not isinstance(seed, int):
        raise InputError(f"This is no report of '{verb}': give the one that it wrote.")
    for name in names:
        if name not in settings:
            raise InputError(f"The report does not say '{name}': give one that this version wrote.")
    return {name: settings[name] for name in names}, seed


def _name(model: Mapping[str, Any] | None) -> str | None:
    return None if model is None else str(model["name"])
