"""Memory and time of the search of `ctenhance batch` against the number of series.

    python benchmarks/batch_search.py [--series 100 200 400 800] [--slices 125] [--out FILE]

Archives of so many series are written (each a study of its own, small slices), and each is searched in a
process of its own: how much that process grew, how long it took, and when the first case came.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

#: In place of what differs from slice to slice, as long as this.
STUDY, SERIES, IMAGE, PLACE = "1.2.3.100000000", "1.2.3.200000000", "1.2.3.300000000", "-1234.500"


def template() -> bytes:
    """A CT slice of 16 x 16 pixels as a file."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, IMAGE
    image = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, IMAGE
    image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = STUDY, SERIES, SERIES
    image.Modality, image.ImageType, image.SeriesNumber = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"], 1
    image.ImagePositionPatient, image.ImageOrientationPatient = [0, 0, PLACE], [1, 0, 0, 0, 1, 0]
    image.PixelSpacing, image.SliceThickness, image.KVP = [0.8, 0.8], 1, 120
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows, image.Columns = 16, 16
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 0
    image.RescaleSlope, image.RescaleIntercept, image.RescaleType = 1, -1024, "HU"
    image.PixelData = np.arange(256, dtype="<u2").tobytes()
    with tempfile.TemporaryDirectory() as temporary:
        image.save_as(Path(temporary, "a"), implicit_vr=False, little_endian=True, enforce_file_format=True)
        return Path(temporary, "a").read_bytes()


def write(folder: Path, series: int, slices: int) -> None:
    whole = template()
    for k in range(series):
        own = folder / f"patient{k:06}" / "study" / "series"
        own.mkdir(parents=True)
        of_series = whole.replace(STUDY.encode(), f"1.2.3.1{k:08}".encode())
        of_series = of_series.replace(SERIES.encode(), f"1.2.3.2{k:08}".encode())
        for z in range(slices):
            one = of_series.replace(IMAGE.encode(), f"1.2.3.3{k * slices + z:08}".encode())
            (own / f"IM{z:04}").write_bytes(one.replace(PLACE.encode(), f"{-1234.5 + z:9.3f}".encode()))


SEARCH = """
import sys, time, psutil
from pathlib import Path
from ctenhance.commands.batch_cases import CaseSearch
import ctenhance.files.dicom.search
me = psutil.Process()
def search(folder):
    began, first, cases, most = time.perf_counter(), 0.0, 0, 0
    for one in CaseSearch(Path(folder), Path(folder + "-out")):
        first = first or time.perf_counter() - began
        cases += 1
        most = max(most, me.memory_info().rss)
    return cases, first, time.perf_counter() - began, most
before = search(sys.argv[1])[3]
cases, first, took, most = search(sys.argv[2])
print(cases, first, took, (most - before) / 2**20)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--series", type=int, nargs="+", default=[100, 200, 400, 800])
    parser.add_argument("--slices", type=int, default=125)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    lines = [
        f"{given.slices} slices a series, load {os.getloadavg()[0]:.0f}.\n",
        "| series | files | first case after (s) | all after (s) | the process grew by (MB) |",
        "|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as temporary:
        write(Path(temporary, "warm"), 1, given.slices)
        for number in given.series:
            folder = Path(temporary, str(number))
            write(folder, number, given.slices)
            line = [sys.executable, "-c", SEARCH, str(Path(temporary, "warm")), str(folder)]
            ran = subprocess.run(line, check=True, capture_output=True, text=True, env={**os.environ})
            cases, first, took, grew = ran.stdout.split()
            assert int(cases) == number
            lines.append(
                f"| {number} | {number * given.slices} | {float(first):.2f} | {float(took):.1f} | "
                f"{float(grew):.1f} |"
            )
            print(time.strftime("%H:%M:%S"), lines[-1], flush=True)
    text = "\n".join(lines)
    if given.out is not None:
        head = (__doc__ or "").splitlines()[0]
        given.out.write_text(f"# {head}\n\n{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
