"""Images at two or more energies as what is decomposed: volumes of the scene, or a DICOM study's folder."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from ctenhance.runtime.errors import InputError
from CTEnhanceLib.decompose.othermap import isMap
from CTEnhanceLib.out.patient import firstFile
from CTEnhanceLib.process import transfer
from CTEnhanceLib.scene import volumes

# What people write into the names of volumes: '40 keV', 'Sn140kV'.
_KEV = re.compile(r"(?<![\d.])(\d{2,3}(?:\.\d+)?)\s*keV\b", re.IGNORECASE)
_KV = re.compile(r"(?<![A-Za-z0-9])(Sn)?\s*(\d{2,3})\s*kVp?\b", re.IGNORECASE)


@dataclass(frozen=True)
class SpectralImages:
    """`volumes`: pairs of an energy, as the command line takes it (40, 80kV, Sn140kV), and a volume node;
    `folder`: DICOM images that tell their energies themselves, in place of volumes."""

    volumes: tuple[tuple[str, Any], ...] = ()
    folder: Path | None = None

    def require(self) -> None:
        """Raise InputError with the sentence that says why these cannot be decomposed, if anything."""
        if self.folder is not None:
            if self.volumes:
                raise InputError(_("Choose volumes or a DICOM folder, not both."))
            if not self.folder.is_dir():
                raise InputError(_("There is no folder '{path}': choose another.").format(path=self.folder))
            return
        if len(self.volumes) < 2:
            raise InputError(
                _("Choose volumes of one scan at two or more energies, or the folder of a DICOM study.")
            )
        nodes = [node for _energy, node in self.volumes]
        for energy, node in self.volumes:
            name = node.GetName()
            if nodes.count(node) > 1:
                raise InputError(_("'{name}' is chosen twice: choose another volume.").format(name=name))
            volumes.requireScalarVolume(node)
            if isMap(node):
                raise InputError(
                    _("'{name}' is a map, not a CT image in HU: choose the image.").format(name=name)
                )
            if not energy.strip():
                raise InputError(
                    _("Write the energy of '{name}' beside it: 40 for 40 keV, 80kV or Sn140kV.").format(
                        name=name
                    )
                )
        _requireOneScan(self.volumes)

    def prepare(self, folder: Path) -> Iterator[float]:
        """Write the volumes where the worker reads them; yield the fraction done."""
        for index, (_energy, node) in enumerate(self.volumes):
            for done in transfer.writeMetaImage(node, _file(folder, index)):
                yield (index + done) / len(self.volumes)
        yield 1.0

    def arguments(self, folder: Path) -> list[str]:
        """Return the command line's options that name the images."""
        if self.folder is not None:
            return ["--image", str(self.folder)]
        found: list[str] = []
        for index, (energy, _node) in enumerate(self.volumes):
            found += ["--image", f"{energy.strip()}={_file(folder, index)}"]
        return found

    def name(self) -> str:
        """Return what the results are called after."""
        if self.folder is not None:
            return self.folder.name
        return str(self.volumes[0][1].GetName()) if self.volumes else ""

    def few(self) -> SpectralImages | None:
        """Return the slices in the middle of each volume; None where these do not lie over each other, or
        are in a folder."""
        nodes = [node for _energy, node in self.volumes]
        if not nodes or any(not volumes.sameGrid(node, nodes[0]) for node in nodes):
            return None
        return SpectralImages(tuple((energy, volumes.middleSlices(node)) for energy, node in self.volumes))

    def count(self) -> int | None:
        """Return how many slices the first volume has; None: the worker finds out."""
        size = volumes.imageSize(self.volumes[0][1]) if self.volumes else None
        return None if size is None else size[2]

    def likeness(self) -> Hashable:
        """Return what the time of a slice depends on."""
        return self.folder, tuple((volumes.imageSize(node) or ())[:2] for _energy, node in self.volumes)

    def readable(self, sentence: str, folder: Path) -> str:
        """Put the volumes' names in place of the files that the worker knows."""
        for index, (_energy, node) in enumerate(self.volumes):
            path = _file(folder, index)
            sentence = sentence.replace(str(path), node.GetName()).replace(path.name, node.GetName())
        return sentence


def _file(folder: Path, index: int) -> Path:
    return folder / f"image{index + 1}.mha"


def energyOf(node: Any) -> str:
    """Return the energy of a volume as the command line takes it, by its DICOM images or its name; or ''."""
    header = _header(firstFile(node))
    if header is not None and header.energy:
        return str(header.energy)
    name = node.GetName() or ""
    values = set(_KEV.findall(name))
    if len(values) == 1:
        return f"{float(values.pop()):g}"
    tubes = set(_KV.findall(name))
    if values or len(tubes) != 1:
        return ""
    tin, kv = tubes.pop()
    return f"{'Sn' if tin else ''}{kv}kV"


def _requireOneScan(chosen: Sequence[tuple[str, Any]]) -> None:
    """Raise InputError where the volumes' DICOM images are of several patients, places or times."""
    headers = [(_header(firstFile(node)), node.GetName()) for _energy, node in chosen]
    known = [(header, name) for header, name in headers if header is not None]
    if len(known) > 1:
        from ctenhance.files.dicom.energies import require_one_scan

        require_one_scan([header for header, _name in known], [f"'{name}'" for _header, name in known])


@lru_cache(maxsize=64)
def _header(path: str) -> Any:
    """Return what a DICOM file tells of energy and scan; None where there is none, or nothing to read it."""
    if not path or not Path(path).is_file():
        return None
    try:
        from ctenhance.files.dicom.energies import ATTRIBUTES, scan_header
        from ctenhance.files.dicom.header import read_file
    except ImportError:  # pydicom comes with Slicer, but not with every Python
        return None
    try:
        file = read_file(Path(path), ATTRIBUTES)
    except InputError:
        return None
    return None if file is None else scan_header(file)
