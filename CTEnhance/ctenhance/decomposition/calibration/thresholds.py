"""The calibration file: threshold shifts of a detector and the spectra that its channels count with them.

HDF5. Attributes: `format` = "ctdrift", `version` = 2, `kvp`, `detector`, `reference` (what the shifts were
found from: "phantom", "earlier scan", "none" or "given"). Data: `/shifts_keV` `[column, threshold]` and their
`/standard_errors_keV`, `/thresholds_keV` `[threshold]` before the drift, `/energies_keV` `[energy]`, and
`/effective_spectra` `[column, bin, energy]`: detected quanta per keV in air relative to the sum of those
before the drift, so that the air counts of the earlier calibration go on to hold.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ctenhance.decomposition.calibration.drift import ThresholdShifts
from ctenhance.decomposition.solver.beam import Beam
from ctenhance.files.heaps import require_open
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import replace_when_done, require_space
from ctenhance.scan.projections import Projections

FORMAT, VERSION = "ctdrift", 2
_FIELDS = ("shifts_keV", "standard_errors_keV", "thresholds_keV", "energies_keV", "effective_spectra")


@dataclass(frozen=True)
class DriftCalibration:
    """Shifts in keV `[column, threshold]` and what follows from them; see the module for the other fields."""

    shifts_kev: np.ndarray
    standard_errors_kev: np.ndarray
    thresholds_kev: np.ndarray
    energies_kev: np.ndarray
    effective_spectra: np.ndarray
    kvp: float
    detector: str
    reference: str

    @classmethod
    def of(cls, found: ThresholdShifts | torch.Tensor, beam: Beam) -> DriftCalibration:
        """The calibration of shifts that were found with a beam, or are given in keV `[column, threshold]`
        without error."""
        if isinstance(found, torch.Tensor):
            found = ThresholdShifts(found, torch.zeros_like(found), "given")
        spectra = beam.spectra(found.shifts) / beam.spectra().sum()
        return cls(
            found.shifts.numpy(),
            found.errors.numpy(),
            beam.thresholds_kev.numpy(),
            beam.detector.energies_kev.numpy(),
            spectra.numpy(),
            beam.kvp,
            beam.detector.name,
            found.reference,
        )

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the file, whole or not at all."""
        import h5py

        require_space(path, 4 * self.effective_spectra.size)
        with replace_when_done(path) as temporary, h5py.File(temporary, "w") as file:
            file.attrs.update(format=FORMAT, version=VERSION, kvp=self.kvp)
            file.attrs.update(detector=self.detector, reference=self.reference)
            file["shifts_keV"] = self.shifts_kev
            file["standard_errors_keV"] = self.standard_errors_kev
            file["thresholds_keV"] = self.thresholds_kev
            file["energies_keV"] = self.energies_kev
            file["effective_spectra"] = self.effective_spectra.astype(np.float32)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> DriftCalibration:
        """Read a calibration file; raises InputError, naming the field, for what is missing or impossible."""
        import h5py

        name = Path(path).name
        try:
            require_open(Path(path))
            with h5py.File(path, "r") as file:
                if file.attrs.get("format") != FORMAT or int(file.attrs.get("version", 0)) != VERSION:
                    raise InputError(
                        f"'{name}' is no drift calibration of this version: make one with calibrate."
                    )
                missing = [field for field in _FIELDS if field not in file]
                if missing:
                    raise InputError(f"The calibration '{name}' lacks '/{missing[0]}': make it again.")
                fields = [np.asarray(file[field], dtype=np.float64) for field in _FIELDS]
                kvp = float(file.attrs["kvp"])
                detector, reference = (str(file.attrs[name]) for name in ("detector", "reference"))
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"Cannot read the calibration '{path}': it is no such file or damaged."
            ) from error
        shifts, errors, thresholds, energies, spectra = fields
        n = len(thresholds)
        same = shifts.ndim == 2 and shifts.shape == errors.shape and shifts.shape[1] == n
        if not same or spectra.shape != (len(shifts), n - 1, len(energies)):
            raise InputError(f"The fields of the calibration '{name}' do not fit together: make it again.")
        if not all(np.isfinite(field).all() for field in fields):
            raise InputError(f"The calibration '{name}' holds values that are no numbers: make it again.")
        return cls(shifts, errors, thresholds, energies, spectra, kvp, detector, reference)

    def spectra_for(self, projections: Projections) -> torch.Tensor:
        """Absolute effective spectra `[column, bin, energy]` for a scan, on the calibration's own energies.

        Raises InputError where the scan has other channels, thresholds or another tube voltage."""
        if projections.n_columns != len(self.shifts_kev):
            raise InputError(
                f"The calibration is of {len(self.shifts_kev)} detector columns but the scan has "
                f"{projections.n_columns}."
            )
        own = projections.thresholds_keV
        if own is not None and (
            len(own) != len(self.thresholds_kev) or not np.allclose(own, self.thresholds_kev)
        ):
            raise InputError(
                "The calibration was made at other thresholds than the scan's: make one at these."
            )
        kvp = projections.meta.get("kvp")
        try:
            differs = kvp is not None and abs(float(kvp) - self.kvp) > 0.5
        except (TypeError, ValueError):
            differs = True
        if differs:
            raise InputError(
                f"The calibration was made at {self.kvp:g} kV but the scan at {kvp!s:.20} kV: make one "
                "at that."
            )
        air = np.broadcast_to(projections.air(), projections.n_columns).astype(np.float64)
        return torch.from_numpy(self.effective_spectra * air[:, None, None])
