"""Write the table of bare tungsten spectra that the package carries; needs SpekPy (`pip install spekpy`).

    python Testing/tools/make_tube_tables.py

Quanta per keV, cm² and mAs at 1 m, 70 to 150 kV, anode angles 6 to 12 degrees, 1-keV bins from 0 keV.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import spekpy

VOLTAGES = np.array([70, 80, 90, 100, 110, 120, 130, 135, 140, 150])  # those that scanners offer
ANGLES = np.array([6.0, 8.0, 10.0, 12.0])
TARGET = Path(__file__).resolve().parents[2] / "CTEnhance" / "ctenhance" / "physics" / "tungsten_tube.npz"


def main() -> None:
    """Compute and write the table."""
    fluence = np.zeros((len(VOLTAGES), len(ANGLES), 160), np.float32)
    for i, kvp in enumerate(VOLTAGES):
        for j, angle in enumerate(ANGLES):
            energies, values = spekpy.Spek(kvp=float(kvp), th=angle, dk=1.0).get_spectrum()
            fluence[i, j, np.rint(energies - 0.5).astype(int)] = values
    # relative steps of 2^-12 are far below the model's own error and pack to half the size
    mantissa, exponent = np.frexp(fluence)
    fluence = np.ldexp(np.round(mantissa * 4096) / 4096, exponent).astype(np.float32)
    np.savez_compressed(TARGET, kvp=VOLTAGES, anode_deg=ANGLES, fluence=fluence)


if __name__ == "__main__":
    main()
