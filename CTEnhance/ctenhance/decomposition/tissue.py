"""Maps of materials from a CT, for simulated scans: what tissue a Hounsfield unit stands for."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from ctenhance.core.volume import CTVolume
from ctenhance.decomposition.phantom import MaterialPhantom
from ctenhance.physics.materials import material
from ctenhance.runtime.errors import InputError

#: The energy at which a CT at 120 kV shows tissues about as a monoenergetic beam would.
EFFECTIVE_KEV = 70.0
#: Lungs lie below, soft tissue between, in HU.
LUNG_HU, FAT_HU = -500.0, -200.0
#: Soft tissue without contrast medium, blood with it, and the range in which organs are taken to hold some.
PLAIN_HU, BLOOD_HU = 45.0, 112.0
ENHANCED_HU = (75.0, 150.0)
#: Thinner than this (mm) soft tissue of such values is the rim of a bone; vessels reach as far into lungs.
RIM_MM, VESSEL_MM = 5.0, 8.0


def tissue_phantom(volume: CTVolume, contrast_mg_ml: float = 0.0) -> MaterialPhantom:
    """A CT (HU at about 120 kV, square pixels) as maps of adipose tissue, muscle, bone and iodine.

    Each voxel is a mixture of two neighbours in the row air, adipose, muscle, bone, or denser bone, that has
    its HU at `EFFECTIVE_KEV`. Blood holds `contrast_mg_ml` of iodine, enhanced organs in proportion to their
    HU; with 0 nothing is replaced. Raises InputError for pixels that are not square and a negative
    concentration.
    """
    if abs(volume.spacing[0] - volume.spacing[1]) > 1e-3 * volume.spacing[0]:
        raise InputError("The pixels of the CT are not square: resample it first.")
    if not (np.isfinite(contrast_mg_ml) and contrast_mg_ml >= 0):
        raise InputError(
            f"A concentration of {contrast_mg_ml} mg/mL of iodine is not possible: give 0 or more."
        )
    hu = volume.array
    iodine = np.zeros_like(hu)
    if contrast_mg_ml > 0:
        share = _enhancement(hu, volume.spacing)
        iodine = share * np.float32(contrast_mg_ml / 1000)
        hu = np.where(share > 0, np.minimum(hu, PLAIN_HU), hu)
    names = ("adipose", "muscle", "bone")
    anchors = [_hounsfield(name) for name in names]
    fat, muscle, bone = (np.zeros_like(hu) for _ in names)
    # lungs are inflated muscle: their composition is nearly the same
    inflated = np.clip((hu + 1000) / (anchors[1] + 1000), 0, 1)
    solid = hu >= FAT_HU
    thin = solid & (hu < anchors[0])
    fat[thin] = (hu[thin] + 1000) / (anchors[0] + 1000)
    muscle[~solid] = inflated[~solid]
    between = np.clip((hu - anchors[0]) / (anchors[1] - anchors[0]), 0, 1)
    soft = solid & ~thin & (hu < anchors[1])
    fat[soft], muscle[soft] = 1 - between[soft], between[soft]
    hard = hu >= anchors[1]
    bone[hard] = (hu[hard] - anchors[1]) / (anchors[2] - anchors[1])
    denser = hu > anchors[2]  # teeth, metal
    bone[denser] = (hu[denser] + 1000) / (anchors[2] + 1000)
    muscle[hard] = np.clip(1 - bone[hard], 0, 1)
    densities = [
        part * np.float32(material(n).density) for n, part in zip(names, (fat, muscle, bone), strict=True)
    ]
    maps = torch.from_numpy(np.stack([*densities, iodine]).astype(np.float32))
    tissues = tuple(material(n) for n in (*names, "iodine"))
    return MaterialPhantom(tissues, maps, volume.spacing[0], slice_mm=volume.spacing[2])


def _hounsfield(name: str) -> float:
    energy = torch.tensor([EFFECTIVE_KEV], dtype=torch.float64)
    of_water = material("water").linear_attenuation(energy)
    return float(1000 * (material(name).linear_attenuation(energy) / of_water - 1))


def _enhancement(hu: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """The share of blood's contrast medium that each voxel holds."""
    share = np.zeros_like(hu)
    organs = (hu > ENHANCED_HU[0]) & (hu < ENHANCED_HU[1])
    lungs = hu < LUNG_HU
    for index, plane in enumerate(hu):
        thick = ndimage.binary_opening(organs[index], _disc(RIM_MM / 2 / spacing[0]))
        thick = ndimage.binary_dilation(thick, mask=organs[index])
        filled = ndimage.binary_closing(lungs[index], _disc(VESSEL_MM / 2 / spacing[0]))
        blood = (plane + 1000) / (BLOOD_HU + 1000)
        share[index] = np.where(thick, (plane - PLAIN_HU) / (BLOOD_HU - PLAIN_HU), 0)
        vessel = filled & ~lungs[index]
        share[index][vessel] = np.clip(blood[vessel], 0, 1)
    return share


def _disc(radius: float) -> np.ndarray:
    reach = max(1, int(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return x**2 + y**2 <= max(radius, 1) ** 2
