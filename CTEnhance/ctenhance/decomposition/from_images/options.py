"""The settings of `decompose_images` as one object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ctenhance.options import SpectralOptions
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.words import either

#: The units that images may have.
HU, PER_CM, PER_MM = "HU", "1/cm", "1/mm"
UNITS = (HU, PER_CM, PER_MM)


@dataclass(frozen=True, kw_only=True)
class ImageDecomposeOptions(SpectralOptions):
    """The settings of `ctenhance.decompose_images`, apart from attenuations and noise themselves."""

    residual: bool = False
    unit: str = HU
    nonnegative: bool = False
    conserve_volume: bool = False
    at_most: int | None = None
    resample: bool = False
    tolerance_mm: float = 1.0
    apart_s: float = 10.0
    energies_as_given: bool = False
    body_mm: float = 200.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.unit not in UNITS:
            raise InputError(f"There is no unit '{self.unit}' of images: choose {either(UNITS)}.")
        if not self.tolerance_mm >= 0:
            raise InputError(f"A tolerance of {self.tolerance_mm:g} mm is not possible: give 0 or more.")
        if not self.apart_s >= 0:
            raise InputError(f"Images cannot be {self.apart_s:g} s apart: give 0 or more.")
        if not 0 <= self.body_mm <= 1000:
            raise InputError(f"A body of {self.body_mm:g} mm of water is not possible: give 0 to 1000 mm.")
        if self.at_most is not None and self.at_most < 1:
            raise InputError(f"A voxel cannot hold at most {self.at_most} materials: give 1 or more.")

    def settings(self) -> dict[str, Any]:
        """The settings by name, as the report has them."""
        own = asdict(self)
        del own["device"], own["seed"]
        return own | {"basis": list(self.basis), "vmi": list(self.vmi)}

    def to_arguments(self) -> list[str]:
        """The options of `ctenhance decompose`, beside its `--image`s."""
        own = self.settings()
        own |= {"basis": ",".join(self.basis), "vmi": ",".join(f"{kev:g}" for kev in self.vmi) or None}
        found: list[str] = []
        for name, value in own.items():
            option = f"--{name.replace('_', '-')}"
            if value is True:
                found.append(option)
            elif value is not None and value is not False:
                found += [option, str(value)]
        return [*found, *self._common_arguments()]

    @classmethod
    def from_report(cls, report: Mapping[str, Any]) -> ImageDecomposeOptions:
        """The settings of a report. Raises InputError for what is no report of decomposed images."""
        settings = report.get("settings") or {}
        if report.get("verb") != "decompose" or "from_images" not in settings:
            raise InputError("This is no report of decomposed images: give the one that it wrote.")
        names = [name for name in cls.__dataclass_fields__ if name in settings]
        return cls(**{name: settings[name] for name in names}, seed=int(report.get("seed") or 0))
