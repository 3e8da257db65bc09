"""The rays of a scan: parallel ones, and fan beams on a flat or an equiangular (curved) detector. Where an
image's pixels lie is another matter: `image_grid`.

Convention (DESIGN, 'Projection file'; docs/geometry.md shows it), in LPS: an image shows x to the right and
y down. At view angle b the column coordinate grows along e = (cos b, sin b). A fan's source stands at
source_to_isocenter_mm * (sin b, -cos b) and looks along d = (-sin b, cos b); parallel rays run along d."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from ctenhance.physics.image_grid import ImageGrid
from ctenhance.runtime.errors import InputError

FLAT, EQUIANGULAR = "flat", "equiangular"


def even_angles(n_views: int, arc_rad: float = 2 * math.pi, start_rad: float = 0.0) -> tuple[float, ...]:
    """`n_views` evenly spaced view angles from `start_rad` over `arc_rad`, its end excluded (rad)."""
    return tuple(start_rad + arc_rad * view / n_views for view in range(n_views))


def _check_rays(scan: ScanGeometry, name: str, **positive: float) -> None:
    """Refuse empty counts, sizes that are not positive, and positions or angles that are not finite."""
    if min(scan.n_views, scan.n_columns) < 1:
        raise InputError(f"The {name} geometry needs at least one view and column: enlarge its counts.")
    for what, value in positive.items():
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"The {name} geometry's {what} must be positive and finite, not {value}.")
    if not all(math.isfinite(value) for value in (scan.central_column, *(scan.view_angles or ()))):
        raise InputError(f"The {name} geometry's view angles and central column must be finite numbers.")


def _axes(angles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors `[view, 2]` along which columns grow and (central) rays run."""
    cos, sin = torch.cos(angles), torch.sin(angles)
    return torch.stack([cos, sin], -1), torch.stack([-sin, cos], -1)


@dataclass(frozen=True)
class ParallelGeometry:
    """Parallel rays: `n_views` angles over `arc_rad` (end excluded), `n_columns` of `column_pitch_mm` at
    the isocentre.

    Column c lies at t = (c - central_column) * column_pitch_mm and sees the ray x cos b + y sin b = t; the
    default is a centred detector. `view_angles` (rad) gives every view's angle and then stands instead of
    `arc_rad`, which is otherwise a whole multiple of pi, for FBP to be complete. Raises InputError for counts
    or sizes that make no scan."""

    n_views: int
    n_columns: int
    column_pitch_mm: float
    arc_rad: float = math.pi
    view_angles: tuple[float, ...] | None = None
    central_column: float = None  # type: ignore[assignment]  # the middle, unless given

    def __post_init__(self) -> None:
        if self.central_column is None:
            object.__setattr__(self, "central_column", (self.n_columns - 1) / 2)
        _check_rays(self, "parallel", pitch=self.column_pitch_mm, arc=self.arc_rad)
        if self.view_angles is not None and len(self.view_angles) != self.n_views:
            raise InputError(
                f"The parallel geometry has {self.n_views} views but {len(self.view_angles)} view angles: "
                "give one angle a view."
            )

    @classmethod
    def covering(
        cls, grid: ImageGrid, n_views: int | None = None, pitch_mm: float | None = None
    ) -> ParallelGeometry:
        """A scan whose detector sees the whole image.

        By default one column a pixel, and half as many views again as the longer side has pixels: by
        Crowther's rule (views >= pi/2 * columns across the object) the aliasing then stays outside a body
        that fills the field."""
        pitch = grid.pixel_mm if pitch_mm is None else pitch_mm
        n_columns = math.ceil(math.hypot(*grid.shape) * grid.pixel_mm / pitch) + 2
        return cls(n_views or math.ceil(1.5 * max(grid.shape)), n_columns, pitch)

    def with_views(self, angles: tuple[float, ...]) -> ParallelGeometry:
        """The same scanner at other view angles (rad)."""
        return replace(self, n_views=len(angles), view_angles=angles)

    def with_columns(self, n_columns: int, central_column: float, wider: float = 1.0) -> ParallelGeometry:
        """The same scanner with another row of columns, `wider` times as wide as before."""
        pitch = self.column_pitch_mm * wider
        return replace(self, n_columns=n_columns, central_column=central_column, column_pitch_mm=pitch)

    def angles(self) -> torch.Tensor:
        """View angles in rad, float64 `[view]`, on the CPU."""
        if self.view_angles is not None:
            return torch.tensor(self.view_angles, dtype=torch.float64)
        return torch.arange(self.n_views, dtype=torch.float64) * (self.arc_rad / self.n_views)

    def ray_offsets_mm(self) -> torch.Tensor:
        """Signed distance of each column's ray from the isocentre, float64 `[column]`."""
        return (
            torch.arange(self.n_columns, dtype=torch.float64) - self.central_column
        ) * self.column_pitch_mm

    def column_angles(self) -> torch.Tensor:
        """Angle of each column's ray from the central ray, float64 `[column]` in rad: all parallel, 0."""
        return torch.zeros(self.n_columns, dtype=torch.float64)

    def rays(self) -> tuple[torch.Tensor, torch.Tensor]:
        """A point on each ray and its unit direction, float64 (x, y), broadcasting to `[view, column, 2]`."""
        along_columns, along_rays = _axes(self.angles())
        return along_columns[:, None] * self.ray_offsets_mm()[:, None], along_rays[:, None]

    @property
    def isocenter_pitch_mm(self) -> float:
        """Distance of neighbouring rays at the isocentre."""
        return self.column_pitch_mm

    @property
    def field_of_view_mm(self) -> float:
        """Diameter of the circle about the isocentre that every view sees whole."""
        sides = self.central_column + 0.5, self.n_columns - 0.5 - self.central_column
        return 2 * max(0.0, min(sides)) * self.column_pitch_mm


@dataclass(frozen=True)
class FanGeometry:
    """A fan beam of one row of `n_columns`, at any `view_angles` (rad, one a view).

    `shape` is "flat" (`column_pitch` in mm at the detector, `source_to_detector_mm` from the source along
    the central ray) or "equiangular" (`column_pitch` in rad). The ray through the isocentre meets the
    0-based, fractional column `central_column`. Raises InputError for counts or sizes that make no scan."""

    shape: str
    source_to_isocenter_mm: float
    source_to_detector_mm: float
    column_pitch: float
    n_columns: int
    central_column: float
    view_angles: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.shape not in (FLAT, EQUIANGULAR):
            raise InputError(f"There is no fan detector shape '{self.shape}': choose flat or equiangular.")
        _check_rays(
            self,
            "fan",
            **{
                "source-to-isocentre distance": self.source_to_isocenter_mm,
                "source-to-detector distance": self.source_to_detector_mm,
                "column pitch": self.column_pitch,
            },
        )
        if self.source_to_detector_mm < self.source_to_isocenter_mm:
            raise InputError(
                f"The fan geometry's detector ({self.source_to_detector_mm} mm from the source) must not lie "
                f"before the isocentre ({self.source_to_isocenter_mm} mm): check the two distances."
            )
        if max(abs(angle) for angle in self.fan_angles_rad) >= math.pi / 2:
            raise InputError(
                "The fan geometry's columns reach 90 degrees from the central ray: check the column pitch "
                "(rad if equiangular, mm if flat) and the central column."
            )

    def with_views(self, angles: tuple[float, ...]) -> FanGeometry:
        """The same scanner at other view angles (rad)."""
        return replace(self, view_angles=angles)

    def with_columns(self, n_columns: int, central_column: float, wider: float = 1.0) -> FanGeometry:
        """The same scanner with another row of columns, `wider` times as wide as before."""
        pitch = self.column_pitch * wider
        return replace(self, n_columns=n_columns, central_column=central_column, column_pitch=pitch)

    @property
    def n_views(self) -> int:
        """Number of views."""
        return len(self.view_angles)

    def angles(self) -> torch.Tensor:
        """View angles in rad, float64 `[view]`, on the CPU."""
        return torch.tensor(self.view_angles, dtype=torch.float64)

    def column_angles(self) -> torch.Tensor:
        """Angle of each column's ray from the central ray, float64 `[column]` in rad."""
        at = (torch.arange(self.n_columns, dtype=torch.float64) - self.central_column) * self.column_pitch
        return torch.atan(at / self.source_to_detector_mm) if self.shape == FLAT else at

    def ray_offsets_mm(self) -> torch.Tensor:
        """Signed distance of each column's ray from the isocentre, float64 `[column]`."""
        return self.source_to_isocenter_mm * torch.sin(self.column_angles())

    def rays(self) -> tuple[torch.Tensor, torch.Tensor]:
        """A point on each ray and its unit direction, float64 (x, y), broadcasting to `[view, column, 2]`."""
        along_columns, central = _axes(self.angles())
        angle = self.column_angles()[:, None]
        direction = torch.cos(angle) * central[:, None] + torch.sin(angle) * along_columns[:, None]
        return -self.source_to_isocenter_mm * central[:, None], direction

    @property
    def fan_angles_rad(self) -> tuple[float, float]:
        """Angles of the detector's two ends (outer edges of the outermost columns) from the central ray."""
        ends = [(c - self.central_column) * self.column_pitch for c in (-0.5, self.n_columns - 0.5)]
        if self.shape == FLAT:
            ends = [math.atan(end / self.source_to_detector_mm) for end in ends]
        return ends[0], ends[1]

    @property
    def isocenter_pitch_mm(self) -> float:
        """Distance of neighbouring rays at the isocentre."""
        sid = self.source_to_isocenter_mm
        magnified = self.source_to_detector_mm if self.shape == FLAT else 1.0
        return self.column_pitch * sid / magnified

    @property
    def field_of_view_mm(self) -> float:
        """Diameter of the circle about the isocentre that every view sees whole."""
        first, last = self.fan_angles_rad
        return 2 * self.source_to_isocenter_mm * math.sin(max(0.0, min(-first, last)))


#: The rays of a scan, of either kind.
ScanGeometry = ParallelGeometry | FanGeometry


def check_image(scan: ScanGeometry, grid: ImageGrid) -> None:
    """Raise InputError for an image that reaches the circle on which the source turns."""
    if isinstance(scan, FanGeometry) and grid.radius_mm >= scan.source_to_isocenter_mm:
        raise InputError(
            f"The image reaches {grid.radius_mm:.0f} mm from the isocentre, beyond the source at "
            f"{scan.source_to_isocenter_mm:.0f} mm: choose smaller pixels or a smaller matrix."
        )
