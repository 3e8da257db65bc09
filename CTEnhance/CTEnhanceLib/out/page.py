"""The page that documents a comparison: both volumes, what changed by tissue, and how the result was made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from CTEnhanceLib.process import transfer
from CTEnhanceLib.process.run import Job
from CTEnhanceLib.scene import placing, volumes


@dataclass
class PageJob(Job):
    """Writes one HTML file about a result and the volume node that it is compared with."""

    result: Any
    other: Any
    path: Path

    stages = {"read": 10, "noise": 40, "page": 50}  # noqa: RUF012

    def problem(self) -> str:
        """Say what is missing, if anything."""
        if self.other is None:
            return _("There is nothing to tell of yet: press Apply, or choose a result.")
        if not volumes.sameGrid(self.other, self.result):
            return _(
                "'{name}' has its voxels in other places than the result: a page compares voxel by voxel. "
                "Compare the result with its input, or with another result of it."
            ).format(name=self.other.GetName())
        return ""

    def prepare(self, folder: Path) -> Iterator[float]:
        """Write both volumes and the report."""
        (folder / "made.json").write_text(json.dumps(placing.reportOf(self.result) or {}), encoding="utf-8")
        yield from transfer.writeMetaImage(self.other, folder / "before.mha")
        yield from transfer.writeMetaImage(self.result, folder / "after.mha")

    def arguments(self, folder: Path) -> list[str]:
        """Ask for the page."""
        volumes = [str(folder / "before.mha"), str(folder / "after.mha")]
        return ["compare", *volumes, "--page", str(self.path), "--made-by", str(folder / "made.json")]

    def place(self, report: dict[str, Any]) -> Any:
        """Change nothing in the scene."""
        return self.result

    def readable(self, sentence: str, folder: Path) -> str:
        """The worker knows the volumes by their temporary files only."""
        names = {"before.mha": self.other.GetName(), "after.mha": self.result.GetName()}
        for file, name in names.items():
            sentence = sentence.replace(str(folder / file), name)
        return sentence
