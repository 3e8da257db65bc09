#!/usr/bin/env bash
# dcmconv turns a negative first mapped value into a positive one, but only inside a sequence item.
#
# Version:   DCMTK 3.6.7 (Debian's dcmtk); pydicom 3.0.2 makes the input.
# Belief:    a signed image that goes to Implicit VR and back to Explicit VR keeps its signed numbers: whether
#            an element of 'US or SS' is signed follows from the image's Pixel Representation, as for its padding.
# Behaviour: at the top level it does (Pixel Padding Value stays SS -2000). Within an item of the Real World Value
#            Mapping Sequence dcmconv does not look at the image's Pixel Representation: the range -32768...32767
#            comes back as US 32768...32767, first above last, and readers that check the range refuse the image.
#            Item values that must survive belong into (0040,9214) and (0040,9213), which are FD.
# Seen:      explicit.dcm  padding SS -2000   first SS -32768    last SS 32767
#            implicit.dcm  padding SS -2000   first SS -32768    last SS 32767   (as pydicom infers them)
#            back.dcm      padding SS -2000   first US 32768     last US 32767   (as dcmconv wrote them)
#
# Exit code: 0 while it is so, 1 if it has changed, 2 if it could not be tried.
set -euo pipefail

command -v dcmconv > /dev/null || { echo "dcmconv is missing; install DCMTK (Debian: dcmtk)." >&2; exit 2; }
venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT
python3 -m venv "$venv" || exit 2
"$venv/bin/pip" install --quiet --disable-pip-version-check pydicom==3.0.2 || exit 2
cd "$venv"
dcmconv --version | sed -n 1p

"$venv/bin/python" - <<'PY'
import subprocess

import pydicom
from pydicom.dataset import Dataset

ct = pydicom.examples.ct  # signed, Explicit VR Little Endian
unit = Dataset()
unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "mg/mL", "UCUM", "mg/mL"
mapping = Dataset()
mapping.add_new("RealWorldValueFirstValueMapped", "SS", -32768)
mapping.add_new("RealWorldValueLastValueMapped", "SS", 32767)
mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = 0.01, 0.0
mapping.LUTLabel, mapping.LUTExplanation = "density", "density"
mapping.MeasurementUnitsCodeSequence = [unit]
ct.RealWorldValueMappingSequence = [mapping]
ct.add_new("PixelPaddingValue", "SS", -2000)
ct.save_as("explicit.dcm")
subprocess.run(["dcmconv", "+ti", "explicit.dcm", "implicit.dcm"], check=True)
subprocess.run(["dcmconv", "+te", "implicit.dcm", "back.dcm"], check=True)


def numbers(path):
    image = pydicom.dcmread(path)
    item = image.RealWorldValueMappingSequence[0]
    found = image["PixelPaddingValue"], *(item[f"RealWorldValue{end}ValueMapped"] for end in ("First", "Last"))
    return [f"{element.VR} {element.value}" for element in found]


for path in ("explicit.dcm", "implicit.dcm", "back.dcm"):
    print("{:14}padding {}   first {:10}   last {}".format(path, *numbers(path)))
kept = ["SS -2000", "SS -32768", "SS 32767"]
as_stated = numbers("implicit.dcm") == kept and numbers("back.dcm") == ["SS -2000", "US 32768", "US 32767"]
print("As stated." if as_stated else "CHANGED.")
raise SystemExit(not as_stated)
PY
