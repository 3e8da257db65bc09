"""Which images at several energies belong together, for `ctenhance batch --verb decompose --image …`.

As the single command takes one image an energy, so each `--image` names one in the folder of a case: a file
or a DICOM folder by its name, a pattern with one `*` that stands for the case's name, or `.`, the DICOM files
of the folder itself, whose headers tell their energies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ctenhance.commands.batch_search import dicom_among
from ctenhance.runtime.errors import InputError

ONE_ENERGY = "its headers tell"
_HERE = "."
#: The least number of images that can be decomposed.
_LEAST = 2


@dataclass(frozen=True)
class ImagePatterns:
    """What `--image` names, in order, without the energies."""

    patterns: tuple[str, ...]

    @classmethod
    def of(cls, given: Sequence[str]) -> ImagePatterns:
        """From '40=low.nii.gz' and so on.

        Raises InputError for names that lead out of the folder, for several `*`, for patterns beside names,
        and for a single image.
        """
        from ctenhance.decomposition.from_images.reading import split

        pairs = [(energy, path.as_posix()) for energy, path in map(split, given)]
        for energy, pattern in pairs:
            parts = Path(pattern).parts
            if Path(pattern).is_absolute() or ".." in parts:
                raise InputError(
                    f"--image {energy}={pattern}: in a batch give the name that the image has in the folder "
                    "of each case, such as 40=low.nii.gz, or a pattern, such as 40=*_40.nii.gz."
                )
            if pattern.count("*") > 1:
                raise InputError(f"--image {pattern}: one * stands for the case's name; leave out the other.")
            if not energy and "*" in pattern:
                raise InputError(f"--image {pattern}: write the energy before it: 40={pattern}.")
            if energy and pattern == _HERE:
                raise InputError("--image .: the headers tell the energies of DICOM; give it without one.")
        patterns = tuple(pattern for _, pattern in pairs)
        if len({"*" in one for one in patterns}) > 1:
            raise InputError(
                "--image: give each with a *, or none: else nothing tells what belongs together."
            )
        if len(set(patterns)) < len(patterns):
            raise InputError(f"--image: two energies have the same name '{patterns[0]}'; give each its own.")
        if len(patterns) < _LEAST and pairs[0][0]:
            raise InputError("A decomposition needs images at two energies or more: repeat --image.")
        return cls(patterns)

    def found(self, here: Path, files: Sequence[Path]) -> Iterator[tuple[str, list[Path], str]]:
        """The cases of a folder with these files: name in the folder ('' for the folder), images, and what is
        lacking."""
        if "*" in self.patterns[0]:
            yield from self._by_star(here)
            return
        if self.patterns == (_HERE,):
            if dicom_among(files):
                lacking = self._why_not_told(here)
                if lacking is not None:
                    yield "", [here], lacking
            return
        paths = [here / pattern for pattern in self.patterns]
        there = [path for path in paths if path.exists()]
        if there and (there != [here] or dicom_among(files)):
            missing = next((path for path in paths if not path.exists()), None)
            yield "", paths, "" if missing is None else self._lacks(here, there[0], missing)

    def _by_star(self, here: Path) -> Iterator[tuple[str, list[Path], str]]:
        names: dict[str, Path] = {}
        for pattern in self.patterns:
            first, last = pattern.split("*")
            for path in sorted(here.glob(f"{_escaped(first)}*{_escaped(last)}")):
                inside = path.relative_to(here).as_posix()
                if path.name[0] != ".":
                    names.setdefault(inside[len(first) : len(inside) - len(last)], path)
        for name, present in sorted(names.items()):
            if name:
                paths = [here / pattern.replace("*", name) for pattern in self.patterns]
                missing = next((path for path in paths if not path.exists()), None)
                yield name, paths, "" if missing is None else self._lacks(here, present, missing)

    def _why_not_told(self, here: Path) -> str | None:
        """Why the DICOM of a folder is no case, '' if it is one, and None where there is no DICOM image."""
        from ctenhance.decomposition.from_images.reading import energies_told
        from ctenhance.files.dicom.kinds import NoSlicesError

        try:
            energies = energies_told(here)
        except NoSlicesError:
            return None
        except InputError as error:
            return str(error)
        if len(energies) >= _LEAST:
            return ""
        return f"{ONE_ENERGY} {'one energy, ' + energies[0] if energies else 'no energy'}"

    @staticmethod
    def _lacks(here: Path, present: Path, missing: Path) -> str:
        return (
            f"There is no '{missing.relative_to(here).as_posix()}' beside "
            f"'{present.relative_to(here).as_posix()}': a case has an image at each energy."
        )

    def why_none(self, source: Path, left_out: Mapping[str, str]) -> str:
        """Why there is no case."""
        named = ", ".join(f"'{one}'" for one in self.patterns)
        listing = "; ".join(f"'{name}' ({why})" for name, why in sorted(left_out.items())[:3])
        more = f" ({listing})" if listing else ""
        return (
            f"No folder in '{source}' has images at several energies by the names {named}{more}; give "
            "--image by the names in the folder of each case, such as 40=low.nii.gz, or by 40=*_40.nii.gz."
        )


def _escaped(text: str) -> str:
    import glob

    return glob.escape(text)
