"""What Slicer lists of a module, said once for all of them, and the addresses in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

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
