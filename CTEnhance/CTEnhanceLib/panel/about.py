"""What Slicer lists of a module, said once for all of them, and the addresses in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from CTEnhanceLib.process.worker import PACKAGE_FOLDER

# A chest phantom, nearly without noise, and the same as a routine scan at a quarter of the dose shows it
# (`ctenhance degrade --preset routine --dose 0.25`): on that one sees what enhancing does.
SAMPLE, ROUTINE_SAMPLE = "CTEnhanceChestPhantom", "CTEnhanceRoutineChest"
# Where the repository will be published; see docs/decisions/0006-panel.md.
DOCUMENTATION = "https://github.com/CTEnhance/CTEnhance/blob/main/docs"


def describe(parent: Any, title: str, text: str, page: str, categories: Sequence[str]) -> None:
    """Fill in what a module says of itself: `text` in its help, `page` is a file name in docs/."""
    parent.title = title
    parent.categories = list(categories)
    parent.dependencies = []
    parent.contributors = ["The CTEnhance contributors"]
    link = _('See the <a href="{url}">documentation</a>.').format(url=f"{DOCUMENTATION}/{page}")
    research = _("Research use only; not for diagnosis.")
    parent.helpText = f"{text} {research} {link}"
    parent.acknowledgementText = _(
        "Built on 3D Slicer, PyTorch and MONAI. Each model says on what data it was trained: see the "
        "tooltip of its name, and its model card."
    )


def registerSample(name: str, path: Path, sha256: str, thumbnail: Path) -> None:
    """Offer a volume that came with the module in the module Sample Data, if there is one; nothing is
    downloaded."""
    try:
        import SampleData
    except ImportError:  # a custom application without it
        return

    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="CTEnhance",
        sampleName=name,
        uris=path.as_uri(),
        fileNames=path.name,
        nodeNames=name,
        checksums=f"SHA256:{sha256}",
        thumbnailFileName=str(thumbnail),
    )


def samplePath(name: str) -> Path:
    """Return the file of a volume that came with the module."""
    return PACKAGE_FOLDER / "Resources" / "SampleData" / f"{name}.nrrd"


def loadSample(name: str) -> Any:
    """Return the node of such a volume, loaded into the scene; None where that fails."""
    return slicer.util.loadVolume(str(samplePath(name)))
