"""`decompose` of images at several energies, for a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ctenhance
from ctenhance.batch.case import Case
from ctenhance.batch.verbs import Verb
from ctenhance.core.report import Result
from ctenhance.files.finished import file_sha256
from ctenhance.runtime.files import stem_of
from ctenhance.runtime.progress import Cancellable, Progress

if TYPE_CHECKING:
    from ctenhance.core.volume import CTVolume
    from ctenhance.decomposition.from_images.options import ImageDecomposeOptions


@dataclass(frozen=True)
class OfImages:
    """The settings: the energies ('' where DICOM tells them) in the order of a case's images, and the verb's
    own; `attenuation` is the table's file, `chosen` the series and images of the DICOM folders."""

    energies: tuple[str, ...]
    images: ImageDecomposeOptions
    attenuation: Path | None = None
    noise: tuple[float, ...] | None = None
    chosen: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Read:
    """The images of a case by energy, and what was noted when they were read."""

    volumes: Mapping[str, CTVolume]
    notes: tuple[str, ...]


class DecomposeImages(Verb):
    """`ctenhance decompose --image …`: a folder of maps a case, whose images are in `Case.beside`."""

    name = "decompose"
    takes_ct = False
    gives_ct = False
    options: OfImages

    @classmethod
    def made_by(cls, options: OfImages) -> dict[str, Any]:
        from ctenhance.decomposition.from_images.attenuation import read_table
        from ctenhance.decomposition.products import image_names
        from ctenhance.runtime.device import pick_device

        image_names(options.images)  # refuses materials that are not known
        pick_device(options.images.device)
        if options.attenuation is not None:
            read_table(options.attenuation)
        table = None if options.attenuation is None else file_sha256(options.attenuation)
        asked = {
            **options.images.settings(),
            "energies": list(options.energies),
            "attenuation": table,
            "noise": None if options.noise is None else list(options.noise),
        }
        if options.chosen:
            asked["chosen"] = dict(options.chosen)
        return {"model": None, "weights": None, "seed": options.images.seed, "asked": asked}

    def outputs(self, case: Case) -> dict[str, Path]:
        from ctenhance.decomposition.products import image_names

        folder = case.output.with_name(stem_of(case.output))
        names = image_names(self.options.images) + (["residual"] if self.options.images.residual else [])
        return {name: folder / f"{name}.nii.gz" for name in names}

    def read(self, case: Case, progress: Progress, cancel: Cancellable) -> Read:
        from ctenhance.decomposition.from_images.options import HU
        from ctenhance.decomposition.from_images.reading import images_at_energies, is_dicom

        chosen = self.options.chosen
        paths = [path for _, path in sorted(case.beside.items())]
        notes: list[str] = []
        pairs = list(zip(self.options.energies, paths, strict=True))
        hounsfield = self.options.images.unit == HU
        volumes = images_at_energies(
            pairs,
            hounsfield,
            False,
            lambda ones: [chosen if is_dicom(one) else {} for one in ones],
            progress,
            cancel,
            notes.append,
        )
        return Read(volumes, tuple(notes))

    def identity(self, source: Read, progress: Progress, cancel: Cancellable) -> dict[str, Any]:
        return {
            "images": {
                energy: {
                    **one.identity(),
                    "origin": list(one.origin),
                    "direction": one.direction.tolist(),
                }
                for energy, one in source.volumes.items()
            }
        }

    def notes(self, source: Read) -> list[str]:
        read = [
            f"{energy}: {note}"
            for energy, one in source.volumes.items()
            for note in one.meta.get("notes", [])
        ]
        return [*(one.rstrip(".") for one in source.notes), *read]

    def run(
        self, source: Read, case: Case, identity: Mapping[str, Any], progress: Progress, cancel: Cancellable
    ) -> Result:
        from ctenhance.decomposition.from_images.attenuation import read_table

        table = None if self.options.attenuation is None else read_table(self.options.attenuation)
        return ctenhance.decompose_images(
            source.volumes,
            attenuation=table,
            noise=self.options.noise,
            options=self.options.images,
            progress=progress,
            cancel=cancel,
        )
