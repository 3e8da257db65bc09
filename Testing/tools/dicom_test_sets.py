"""Run the DICOM files of public test sets through the reader and write the table docs/dicom-test-sets.md.

    pip download --no-deps -d sets pydicom pydicom-data pynetdicom nibabel deid-data highdicom pylibjpeg
    pip download --no-deps --no-binary :all: -d sets dicognito dicompyler-core dicom-validator
    git clone https://github.com/pydicom/pylibjpeg-data sets/pylibjpeg-data
    git clone https://github.com/ImagingDataCommons/highdicom sets/highdicom-repository
    python Testing/tools/dicom_test_sets.py sets

Wheels and source archives are unpacked into a temporary folder, folders are taken as they are; files that a
package would download when it is used are not there. Every file is read alone, as a user would give it; files
of one CT series are read together, too. What was found by looking at single files stands in REMARKS.
"""

from __future__ import annotations

import argparse
import re
import sys
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ctenhance.core.volume import CTVolume
from ctenhance.files.dicom.header import read_file, text
from ctenhance.runtime.errors import InputError

TARGET = Path(__file__).parents[2] / "docs" / "dicom-test-sets.md"
SUFFIXES = (".dcm", ".dicom", ".ima")
MOST_NAMED = 8

# What the outcome of a file means, seen by hand: its header, its pixels, other decoders.
REMARKS = {
    "17136": "16 × 16 pixels of a brain CT, with soft tissue",
    "17166": "16 × 16 pixels of a brain CT that show bone alone: the rule on values cannot tell it, and says "
    "so; no whole slice looks like this",
    "17196": "likewise",
    "J2K_pixelrep_mismatch.dcm": "signed header, unsigned stream: the header is right, a whole head",
    "TOSHIBA_J2K_SIZ0_PixRep1.dcm": "signed header, unsigned stream: the header is right, a coronal pelvis",
    "TOSHIBA_J2K_SIZ1_PixRep0.dcm": "unsigned header, signed stream: by the header, air would be 63 000 HU",
    "JPEGLossless_1s_1f_i_16_16_bad.dcm": "written by an encoder with the fault: `dcmdjpeg +w6` gives a jaw, "
    "every decoder by the standard stripes",
    "CT1_JLSN.dcm": "near-lossless JPEG-LS, through GDCM",
    "ELSCINT1_JP2vsJ2K.dcm": "a whole JP2 file where a bare stream should be; decoded all the same",
    "693_J2KI.dcm": "lossy; the blurred padding of −2000 becomes air",
    "693_UNCI.dcm": "the same, uncompressed",
    "bad_sequence.dcm": "a private sequence is encoded wrongly, of no matter to a CT",
    "explicit_VR-UN.dcm": "almost all elements have the value representation UN",
    "CTImageStorage_bad_meta.dcm": "its file meta header lacks the SOP class; the data set has it",
    "CT_small_deflated.dcm": "deflated",
    "ct.0.dcm": "implicit value representations",
    "CT_small.dcm": "128 × 128 pixels, a quarter of the matrix for which its field of view holds",
    "empty_charset_LEI.dcm": "two elements, no identity and no image, as in the other two: sound data sets",
    "UN_sequence.dcm": "one private sequence, no image",
    "no_meta.dcm": "CT_small without file meta header, and with a stray byte before the first element: "
    "pydicom finds nothing in it, either",
    "ExplVR_BigEndNoMeta.dcm": "an RT plan in big endian without the mark of DICOM",
    "ctbrain1.dcm": "a drawing under the header of a CT",
    "ctbrain2.dcm": "likewise",
    "eCT_Supplemental.dcm": "two frames of perfusion maps of a brain",
    "MAROTECH_CT_JP2Lossy.dcm": "a frontal scout",
    "OsirixFake16BitsStoredFakeSpacing.dcm": "an MR acquisition as a secondary capture",
}


@dataclass(frozen=True)
class Row:
    """Files with one outcome."""

    accepted: bool
    reason: str
    remark: str
    names: tuple[str, ...]


def main(arguments: Sequence[str]) -> None:
    """Write the table of the sets in the folder that is named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", type=Path, help="folder with wheels, source archives and folders")
    parser.add_argument("--out", type=Path, default=TARGET)
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as scratch:
        folders = list(unpacked(given.sets, Path(scratch)))
        parts, none = [], []
        accepted = refused = 0
        for name, folder in folders:
            files = dicom_files(folder)
            if not files:
                none.append(name)
                continue
            found = rows(files)
            accepted += sum(len(row.names) for row in found if row.accepted)
            refused += sum(len(row.names) for row in found if not row.accepted)
            parts.append(f"## {name}\n\n{table(found)}{together(files)}")
            print(f"{name}: {len(files)} files", file=sys.stderr)
    head = (
        "# Public DICOM test sets through the reader\n\n"
        "Made by `Testing/tools/dicom_test_sets.py`, which says how to get the sets. Each file is read "
        f"alone, as `ctenhance enhance FILE …` would: {accepted} are accepted, {refused} refused with this "
        "reason. A remark says what a look at the file itself, and other decoders, add. "
        f"No DICOM file is in {', '.join(none)}.\n\n"
    )
    given.out.write_text(head + "\n".join(parts), encoding="utf-8")


def unpacked(sets: Path, scratch: Path) -> Iterator[tuple[str, Path]]:
    """Yield each set's name with its version, and its folder."""
    for path in sorted(sets.iterdir(), key=lambda path: path.name.casefold()):
        if path.is_dir():
            yield path.name, path
            continue
        folder = scratch / path.name
        if path.suffix == ".whl":
            with zipfile.ZipFile(path) as archive:
                archive.extractall(folder)
            name, version, *_ = path.name.split("-")
        elif path.name.endswith(".tar.gz"):
            with tarfile.open(path) as archive:
                archive.extractall(folder, filter="data")
            name, version = path.name.removesuffix(".tar.gz").rsplit("-", 1)
        else:
            continue
        yield f"{name.replace('_', '-')} {version}", folder


def dicom_files(folder: Path) -> list[Path]:
    """Return what is a DICOM file or calls itself one."""
    found = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or ".git" in path.parts:
            continue
        try:
            is_dicom = read_file(path) is not None
        except InputError:
            is_dicom = True
        if is_dicom or path.suffix.casefold() in SUFFIXES:
            found.append(path)
    return found


def rows(files: Sequence[Path]) -> list[Row]:
    """Return the outcome of each file, those with the same one together."""
    by_outcome: dict[tuple[bool, str, str], list[str]] = {}
    for path in files:
        accepted, reason = outcome(path)
        remark = REMARKS.get(path.name, "")
        by_outcome.setdefault((accepted, reason, remark), []).append(path.name)
    made = [Row(*key, tuple(names)) for key, names in by_outcome.items()]
    return sorted(made, key=lambda row: (not row.accepted, row.reason, row.names))


def outcome(source: Path | Sequence[Path]) -> tuple[bool, str]:
    """Return whether the reader accepts it, and its notes or its reason."""
    try:
        volume = CTVolume.read(source)
    except InputError as error:
        # Without the path, and without the name that stands in the first column.
        sentence = str(error).split("': ", 1)[-1].split(" more: ", 1)[-1]
        one = source.name if isinstance(source, Path) else ""
        return False, sentence.replace(f"'{one}'", "it").rstrip(".")
    notes = "; ".join(volume.meta["notes"])
    slices = "" if len(volume.array) == 1 else f"{len(volume.array)} slices, "
    low, high = (f"{value:g}".replace("-", "−") for value in (volume.array.min(), volume.array.max()))
    return True, f"{slices}{low} to {high} HU" + (f"; {notes}" if notes else "")


def table(found: Sequence[Row]) -> str:
    lines = ["| files | outcome | notes or reason | remark |", "|---|---|---|---|"]
    for row in found:
        lines.append(
            f"| {listed(row.names)} | {'accepted' if row.accepted else 'refused'} | {cell(row.reason)} | "
            f"{cell(row.remark)} |"
        )
    return "\n".join(lines) + "\n"


def listed(names: Sequence[str]) -> str:
    different = sorted(dict.fromkeys(names))
    shown = ", ".join(different[:MOST_NAMED])
    further = len(names) - len(different[:MOST_NAMED])
    return cell(shown + (f" and {further} more" if further > 0 else ""))


def cell(words: str) -> str:
    return re.sub(r"\s+", " ", words).replace("|", "\\|")


def together(files: Sequence[Path]) -> str:
    """Return what becomes of the files of each CT series of more than one image, read together."""
    series: dict[tuple[Path, str], list[Path]] = {}
    for path in files:
        try:
            file = read_file(path)
        except InputError:
            continue
        if file is not None and file.header.Modality == "CT":
            series.setdefault((path.parent, text(file.header.get("SeriesInstanceUID"))), []).append(path)
    lines = []
    for (folder, _), members in series.items():
        if len(members) > 1:
            accepted, reason = outcome(members)
            lines.append(
                f"- {len(members)} files of one series in `{folder.name}`: "
                f"{'accepted' if accepted else 'refused'}, {cell(reason)}"
            )
    return "\nTogether:\n\n" + "\n".join(lines) + "\n" if lines else ""


if __name__ == "__main__":
    main(sys.argv[1:])
