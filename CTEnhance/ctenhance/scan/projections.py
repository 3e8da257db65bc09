"""Projections: the readings of a scan with its geometry.

The convention is that of DESIGN ('Projection file') and `docs/projections.md`, in LPS: at view angle beta the
source stands at source_to_isocenter (sin beta, -cos beta), and columns grow along (cos beta, sin beta).
"""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

import ctenhance
from ctenhance.core.arrays import blocks
from ctenhance.core.volume import CTVolume
from ctenhance.physics.geometry import ScanGeometry, check_image
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.physics.noise import COUNT_FLOOR
from ctenhance.physics.redundancy import measured_field_mm
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.progress import Cancellable, Progress, check
from ctenhance.scan.checks import check_fields, check_values, gap_notes
from ctenhance.scan.dead_columns import dead_columns, fill_in, notes_of
from ctenhance.scan.fields import ScanFields
from ctenhance.scan.rays import rays_of

SUFFIXES = (".ctproj.h5", ".h5", ".hdf5")
#: Image matrix where the projections name none.
DEFAULT_IMAGE_SIZE = 512
#: Fewest and most pixels a side of an image.
IMAGE_SIDES = (16, 4096)
# A smaller image is none of a patient; readers of volumes refuse it, too.
_LEAST_FIELD_MM = 1.0
# A transmission is never taken for smaller than this where the quanta are not known (normalised readings).
_LEAST_TRANSMISSION = 1e-5
# Below this many quanta in air, "counts" are readings normalised to air.
_FEWEST_QUANTA = 100.0


@dataclass(eq=False, repr=False)
class Projections(ScanFields):
    """The readings of one scan (the fields of `ScanFields`), and what they can be asked.

    Raises InputError, naming the field, for what is missing or contradictory.  The values themselves are
    looked at by `check_values`, which `read` and `write` call.
    """

    def __post_init__(self) -> None:
        check_fields(self)

    def __repr__(self) -> str:
        size = " x ".join(str(length) for length in self.shape)
        kind = "line integrals" if self.counts is None else "counts"
        return f"Projections({self.geometry}, {kind} {size})"

    def dead_columns(self, progress: Progress | None = None, cancel: Cancellable | None = None) -> np.ndarray:
        """Return the columns that count nothing in any view, bool `[row, column]` or `[row, column, bin]`.

        Single ones, or a few side by side; `rows` fills them in from their neighbours. Reads all counts.
        """
        if self.counts is None:
            return np.zeros(self.shape[1:], dtype=bool)
        return dead_columns(self.counts, self.electronic_noise_variance, progress, cancel)

    @property
    def readers_notes(self) -> list[str]:
        """Sentences for the user on what a reader assumed or changed."""
        listed = self.meta.get("notes")
        return [str(note) for note in listed] if isinstance(listed, list) else []

    def notes(self, progress: Progress | None = None, cancel: Cancellable | None = None) -> list[str]:
        """Return sentences for the user on what a reader assumed or changed, and what `rows` fills in.

        Reads all counts, as `dead_columns` does.
        """
        return [
            *self.readers_notes,
            *gap_notes(self.view_angles),
            *notes_of(self.dead_columns(progress, cancel)),
        ]

    @property
    def field_of_view_mm(self) -> float:
        """Diameter of the circle about the isocentre of which the scan measures every line."""
        return measured_field_mm(rays_of(self))

    @property
    def image_shape(self) -> tuple[int, int]:
        """Rows and columns of the suggested image."""
        size = self.image_size or DEFAULT_IMAGE_SIZE
        return (size, size) if isinstance(size, int) else size

    @classmethod
    def read(
        cls, path: str | os.PathLike[str], progress: Progress | None = None, cancel: Cancellable | None = None
    ) -> Projections:
        """Read a projection file (`.ctproj.h5`); large readings stay in it or go to a temporary file.

        Raises InputError with one sentence, naming the field, for whatever is missing, contradictory or
        damaged, and for values that cannot be what the file says they are.
        """
        return ctenhance.read_projections(path, progress, cancel, rebin=False)

    def write(
        self,
        path: str | os.PathLike[str],
        progress: Progress | None = None,
        cancel: Cancellable | None = None,
    ) -> None:
        """Write a projection file, whole or not at all.

        Raises InputError for another suffix than those of `SUFFIXES`, a folder that cannot be written and
        values that `check_values` refuses; CTEnhanceError when writing fails (disk full).
        """
        ctenhance.write_projections(self, path, progress, cancel)

    def check_values(self, progress: Progress | None = None, cancel: Cancellable | None = None) -> None:
        """Raise InputError for NaN, impossible values, and readings that are not what they are called."""
        check_values(self, progress, cancel)

    def rows(self, start: int, stop: int) -> Projections:
        """Return the slices `start` to `stop` (excluded) alone, with their readings in memory as float32.

        Dead columns are filled in from their neighbours.  Raises InputError for rows that are not there, and
        on a helix, where a row is no slice.
        """
        if self.helical:
            raise InputError("The rows of a helical scan are no slices; rebin it to fan slices first.")
        if not 0 <= start < stop <= self.n_rows:
            raise InputError(f"There are rows 0 to {self.n_rows - 1}, but {start} to {stop - 1} were asked.")
        part = np.array(self.readings[:, start:stop], dtype=np.float32)
        if self.counts is not None:
            # whether a row's columns are dead follows from that row alone, so the others need not be read
            dead = dead_columns(part, self.electronic_noise_variance)
            if dead.any():
                fill_in(part, dead, np.broadcast_to(np.asarray(self.air_counts), self.shape[2:]))
        shift = self.direction[:, 2] * (start * (self.row_pitch_mm or 0.0))
        x, y, z = (np.asarray(self.isocenter_mm) + shift).tolist()
        name = "line_integrals" if self.counts is None else "counts"
        return replace(self, **{name: part}, isocenter_mm=(x, y, z))  # type: ignore[arg-type]

    def air(self, bin_index: int | None = None) -> np.ndarray:
        """Return quanta in air, float64 [] or [column]: of one bin, or (None) of all of them together.

        Raises InputError where the air counts are not known or there is no such bin.
        """
        if self.air_counts is None:
            raise InputError("The projections do not say how many quanta arrive in air ('/air_counts').")
        air = np.asarray(self.air_counts, dtype=np.float64)
        bins = self.n_bins
        if bins is None:
            return air
        if air.ndim == 0:
            air = np.full(bins, float(air))
        if bin_index is None:
            return np.asarray(air.sum(-1))
        return np.asarray(air[..., self._bin(bin_index)])

    def _bin(self, index: int) -> int:
        if not 0 <= index < (self.n_bins or 0):
            raise InputError(f"There is no energy bin {index} among the {self.n_bins or 'zero'} bins.")
        return index

    def _tensor(self, bin_index: int | None = None) -> torch.Tensor:
        """Readings `[row, view, column]`, float32: of one bin, or of all bins together."""
        readings = self.readings
        if self.n_bins is None:
            values = np.array(readings[...], dtype=np.float32)
        elif bin_index is not None:
            values = np.array(readings[..., self._bin(bin_index)], dtype=np.float32)
        elif self.counts is None:
            raise InputError("Line integrals of several energy bins cannot be added; choose one bin.")
        else:
            values = np.asarray(readings[...]).sum(-1, dtype=np.float64).astype(np.float32)
        return torch.from_numpy(values).transpose(0, 1).contiguous()

    def transmission(self) -> torch.Tensor:
        """Return counts / air counts as float32 `[row, view, column]`; negative where noise made it so.

        Of all energy bins together. All rows are taken into memory: use `rows` first.
        """
        if self.counts is None:
            return torch.exp(-self._tensor())
        return self._tensor() / torch.as_tensor(self.air(), dtype=torch.float32)

    def to_line_integrals(self, bin_index: int | None = None) -> torch.Tensor:
        """Return line integrals as float32 `[row, view, column]`: -ln(counts / air counts).

        See `negative_log` for readings that are too low or negative.
        """
        values = self._tensor(bin_index)
        return values if self.counts is None else negative_log(values, self.air(bin_index))

    def scan_geometry(self) -> ScanGeometry:
        """Return the rays of this scan for `physics`. Raises InputError for a helix, which has no slices."""
        if self.helical:
            raise InputError("A helical scan has no slices; rebin it to fan slices first.")
        return rays_of(self)

    def image_grid(
        self,
        image_size: int | tuple[int, int] | None = None,
        pixel_mm: float | None = None,
        fov_mm: float | None = None,
    ) -> ImageGrid:
        """Return the pixels of the image to make: `image_size` a side (or rows, columns), of `pixel_mm` or
        over `fov_mm` on the larger side; as the projections suggest where nothing is given. Where no pixel
        size is known, the field of view fills the matrix.

        Raises InputError for sizes that make no image of this scan, and for both a pixel size and a field of
        view.
        """
        if isinstance(image_size, int):
            image_size = image_size, image_size
        rows, columns = image_size or self.image_shape
        low, high = IMAGE_SIDES
        if not (low <= rows <= high and low <= columns <= high):
            raise InputError(f"The image matrix is {rows} x {columns}: choose {low} to {high} pixels a side.")
        for name, length in (("pixel size", pixel_mm), ("field of view", fov_mm)):
            if length is not None and not (math.isfinite(length) and length > 0):
                raise InputError(f"The {name} is {length} mm: choose a positive length.")
        if pixel_mm is not None and fov_mm is not None:
            raise InputError("Pixel size and field of view say the same thing: give one of them.")
        scan = self.scan_geometry()
        side = max(rows, columns)
        if fov_mm is not None:
            pixel_mm = fov_mm / side
        elif pixel_mm is None and (own := self.image_pixel_mm) is not None:
            # another matrix shows the same field
            pixel_mm = own if image_size is None else own * max(self.image_shape) / side
        elif pixel_mm is None:
            pixel_mm = measured_field_mm(scan) / side
        if side * pixel_mm < _LEAST_FIELD_MM:
            raise InputError(
                f"The image would be {side * pixel_mm:g} mm wide, which shows nothing: choose larger pixels "
                "or a larger field of view."
            )
        grid = ImageGrid(rows, columns, pixel_mm)
        check_image(scan, grid)
        return grid

    def volume(self, array: np.ndarray, grid: ImageGrid) -> CTVolume:
        """Return images `[row, y, x]` of these rows, made on `grid`, as a volume that lies where the patient
        lay."""
        corner = np.array([float(grid.x_mm()[0]), float(grid.y_mm()[0]), 0.0])
        x, y, z = (np.asarray(self.isocenter_mm) + self.direction @ corner).tolist()
        spacing = (grid.pixel_mm, grid.pixel_mm, self.row_pitch_mm or 1.0)
        return CTVolume(array, spacing, (x, y, z), self.direction.copy(), dict(self.meta))

    def identity(self, progress: Progress | None = None, cancel: Cancellable | None = None) -> dict[str, Any]:
        """Return what says which projections these are and nothing of whose, with the readings' sha256.

        Reads all readings. Raises Cancelled when asked to stop.
        """
        digest = hashlib.sha256(np.asarray(self.view_angles, dtype="<f8").tobytes())
        for part in blocks(self.shape):
            check(cancel)
            if progress is not None:
                progress("check", part.start, self.n_views)
            values = np.asarray(self.readings[part], dtype="<f4")
            digest.update(np.ascontiguousarray(values + np.float32(0)).tobytes())
        if progress is not None:
            progress("check", self.n_views, self.n_views)
        return {
            "geometry": self.geometry,
            "readings": "line_integrals" if self.counts is None else "counts",
            "shape": list(self.shape),
            "sha256": digest.hexdigest(),
        }


def negative_log(counts: torch.Tensor, air: np.ndarray) -> torch.Tensor:
    """Line integrals -ln(counts / air) of `counts` `[..., column]`, `air` [] or [column].

    A reading below `physics.noise.COUNT_FLOOR` quanta (electronic noise makes some negative) counts as that
    many.  The shift by the electronic variance with which the projection diffusion begins (METHODS C.3:
    (I + s2) / air) is not made here: behind a log it would lower every line integral, by 0.15 at 62 quanta.
    """
    quanta = torch.as_tensor(air, dtype=torch.float32)
    least = torch.full_like(quanta, _LEAST_TRANSMISSION)
    floor = torch.where(quanta >= _FEWEST_QUANTA, COUNT_FLOOR / quanta, least)
    return -torch.log(torch.maximum(counts / quanta, floor))
