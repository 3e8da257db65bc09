"""Make an edition of the DICOM standard for dicom-validator out of the tables that highdicom carries.

    python Testing/tools/dicom_edition.py FOLDER && validate_iods -src FOLDER -e local FILE

dicom-validator has no edition of its own and downloads one. highdicom has which modules belong to an object,
and which attributes, of which type, to a module (multi-energy CT and parametric maps among them), in words
that a program can read. What they lack is when a conditional attribute is required: it may be there or not.
"""

from __future__ import annotations

import importlib.resources
import json
import sys
from pathlib import Path
from typing import Any

from pydicom.datadict import DicomDictionary, keyword_for_tag, tag_for_keyword
from pydicom.uid import CTImageStorage, ParametricMapStorage, UID_dictionary

EDITION = "2024a"  # any name of an edition: dicom-validator wants one
FOR = "0.9.0"  # the dicom-validator whose way of keeping it this is
_UP_TO_US = {"type": "U"}
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
#: The macros that a parametric map of a patient must have (PS3.3 A.75.3), which the tables leave out.
_OF_A_MAP = {
    "PixelMeasuresSequence", "PlanePositionSequence", "PlaneOrientationSequence", "FrameContentSequence",
    "PixelValueTransformationSequence", "FrameVOILUTSequence", "RealWorldValueMappingSequence",
    "ParametricMapFrameTypeSequence",
}  # fmt: skip
_MAP = "parametric-map"
#: What CTEnhance writes; all objects would be 20 MB to read for each file.
WRITTEN = (CTImageStorage, ParametricMapStorage)


def _tables(name: str) -> Any:
    return json.loads(
        importlib.resources.files("highdicom").joinpath("_standard", f"{name}.json").read_text()
    )


def _tag(keyword: str) -> str:
    tag = tag_for_keyword(keyword) or 0
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _attributes(listed: list[dict[str, Any]]) -> dict[str, Any]:
    """The attributes of a module by tag, those of items within their sequence."""
    found: dict[str, Any] = {}
    for one in listed:
        if not all(map(tag_for_keyword, [*one["path"], one["keyword"]])):
            continue  # retired, or of repeating groups
        here = found
        for keyword in one["path"]:
            here = here.setdefault(_tag(keyword), {}).setdefault("items", {})
        entry = here.setdefault(_tag(one["keyword"]), {})
        entry |= {"name": one["keyword"], "type": one["type"]}
        if one["type"].endswith("C"):
            entry["cond"] = _UP_TO_US
    return found


def _macros_out_of(attributes: dict[str, Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Take the functional groups out of a module, by a name for each: they stand in one of two sequences."""
    found = {}
    for sequence in map(_tag, _GROUPS):
        for tag, entry in attributes.get(sequence, {}).pop("items", {}).items():
            entry["type"] = "1"
            entry.pop("cond", None)
            found[f"macro {entry['name']}"] = (tag, entry)
    return found


def _use(name: str, usage: str) -> dict[str, Any]:
    return {"ref": name, "use": usage} | ({"cond": _UP_TO_US} if usage == "C" else {})


def write_edition(folder: Path) -> None:
    """Write the tables as dicom-validator keeps those of an edition."""
    objects = {_tables("sop_class_iod_map")[uid]: uid for uid in WRITTEN}
    used = {key: listed for key, listed in _tables("iod_module_map").items() if key in objects}
    needed = {one["key"] for listed in used.values() for one in listed}
    tables = _tables("module_attribute_map")
    modules = {key: _attributes(tables[key]) for key in needed if key in tables}
    macros = {key: _macros_out_of(attributes) for key, attributes in modules.items()}
    for found in macros.values():
        modules |= {name: {tag: entry} for name, (tag, entry) in found.items()}
    iods: dict[str, Any] = {}
    for key, uid in objects.items():
        own = [one for one in used[key] if one["key"] in modules]
        uses = {one["key"]: _use(one["key"], one["usage"]) for one in own}
        groups = {
            name: _use(name, "M" if key == _MAP and entry["name"] in _OF_A_MAP else "U")
            for one in own
            for name, (_, entry) in macros[one["key"]].items()
        }
        iods[uid] = {"title": key, "modules": uses, "group_macros": groups}
    dictionary = {
        f"({tag >> 16:04X},{tag & 0xFFFF:04X})": {
            "name": name, "vr": vr, "vm": vm, "prop": retired, "keyword": keyword_for_tag(tag),
        }
        for tag, (vr, vm, name, retired, _) in DicomDictionary.items()
    }  # fmt: skip
    uids: dict[str, dict[str, str]] = {}
    for uid, (name, kind, *_) in UID_dictionary.items():
        uids.setdefault(kind, {})[uid] = name
    place = folder / EDITION / "json"
    place.mkdir(parents=True, exist_ok=True)
    (folder / EDITION / "docbook").mkdir(exist_ok=True)
    for name, content in {"iod": iods, "module": modules, "dict": dictionary, "uid": uids}.items():
        (place / f"{name}_info.json").write_text(json.dumps(content))
    (place / "version").write_text(FOR)
    for part in (3, 4, 6):  # it only looks whether they are there
        (folder / EDITION / "docbook" / f"part{part:02}.xml").touch()
    (folder / "editions.json").write_text(json.dumps([EDITION]))


if __name__ == "__main__":
    write_edition(Path(sys.argv[1]))
