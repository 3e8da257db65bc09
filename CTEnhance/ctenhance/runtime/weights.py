"""Trained weights: safetensors files, found by name in a registry and checked against its hash.

The embedded ones stand in `ctenhance/weights` with their `registry.json`; a user's own ones in
`~/.ctenhance/weights` (or `$CTENHANCE_HOME/weights`), put there by `add`. A weights file outside of both may
be loaded by its path: it carries its entry as JSON in the safetensors metadata key "ctenhance", as `save`
writes it. Registered weights may have an exported form beside them: an ONNX file of the graph alone, which
takes the numbers from the safetensors file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctenhance.runtime.errors import CTEnhanceError, InputError
from ctenhance.runtime.files import replace_when_done, why_not_written, write_text

if TYPE_CHECKING:
    from torch import Tensor, nn

EMBEDDED = Path(__file__).resolve().parents[1] / "weights"
METADATA_KEY = "ctenhance"
REGISTRY = "registry.json"
REGISTRY_VERSION = 1
_LOCK = ".registry.lock"
SUFFIX = ".safetensors"
EXPORTED_SUFFIX = ".onnx"

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class WeightsEntry:
    """One line of a registry.

    `architecture` names the network's builder in its method package and `arguments` are that builder's
    keyword arguments; `trained_on` says which data under which licence; `card` names the model card. `onnx`
    is empty or tells of the exported form: `file`, `sha256`, `opset`, and whether `bfloat16` was measured to
    be near enough to float32. `spread` holds, by the number of draws, what their standard deviation is to be
    multiplied by to tell of the true error, as measured on held-out patients. `sharpen` is the share of the
    finest part of the network's image that is added to it (`enhancement.slices.FINE_PIXELS`).
    """

    name: str
    file: str
    sha256: str
    licence: str
    trained_on: str
    architecture: str
    arguments: dict[str, Any]
    version: str
    card: str
    onnx: dict[str, Any] = field(default_factory=dict)
    spread: dict[str, float] = field(default_factory=dict)
    sharpen: float = 0.0

    def spread_factor(self, draws: int) -> float:
        """The factor for this number of draws: that of the next smaller number measured; 1 without any."""
        known = [int(count) for count in self.spread if int(count) <= draws]
        return float(self.spread[str(max(known))]) if known else 1.0


@dataclass(frozen=True)
class Model:
    """A network with the entry of its weights."""

    network: nn.Module
    entry: WeightsEntry


def user_folder() -> Path:
    """Return the folder of the user's own weights (it may not exist yet)."""
    home = os.environ.get("CTENHANCE_HOME")
    return (Path(home) if home else Path.home() / ".ctenhance") / "weights"


def entries() -> list[WeightsEntry]:
    """Return the embedded weights, then the user's own. Raises InputError for a broken registry."""
    return [entry for _folder, entry in _located()]


def default_name(verb: str) -> str:
    """Return the name of the weights that `verb` uses when none is named; InputError if there are none."""
    name = _read_registry(EMBEDDED).get("default", {}).get(verb)
    if not isinstance(name, str):
        raise InputError(f"There are no default weights for '{verb}'; name some with --model.")
    return name


def load(
    name_or_path: str | os.PathLike[str], architectures: Collection[str] | None = None
) -> tuple[dict[str, Tensor], WeightsEntry]:
    """Return the tensors (on the CPU, as stored) and the entry of registered weights or of a file.

    `architectures` are those that the caller can build. Raises InputError for an unknown name or
    architecture, a missing or broken file, one that is no safetensors, and one whose hash is not the
    registered one.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as load_bytes

    path, entry, data = _checked(name_or_path, architectures)
    try:
        return load_bytes(data), entry
    except SafetensorError as error:
        raise InputError(f"The weights file '{path}' is broken ({error}); get it again.") from error


def load_model(
    name_or_path: str | os.PathLike[str],
    architectures: Collection[str],
    build: Callable[[str, dict[str, Any]], nn.Module],
) -> Model:
    """Return the network of registered weights or of a file, ready to use on the CPU.

    `build` makes an empty network of an architecture and its arguments. Raises InputError as `load` does,
    and where the weights do not fit the network.
    """
    tensors, entry = load(name_or_path, architectures)
    network = build(entry.architecture, entry.arguments)
    fill(network, tensors, entry)
    return Model(network.eval(), entry)


def find(
    name_or_path: str | os.PathLike[str], architectures: Collection[str] | None = None
) -> tuple[Path, WeightsEntry]:
    """Return the checked file and the entry of weights without loading them; raises InputError as `load`."""
    path, entry, _data = _checked(name_or_path, architectures)
    return path, entry


def _checked(
    name_or_path: str | os.PathLike[str], architectures: Collection[str] | None
) -> tuple[Path, WeightsEntry, bytes]:
    path, entry = _find(name_or_path, architectures)
    # Read once and hash what was read, so that the tensors are those of the checked bytes.
    data = _checked_bytes(path, entry.sha256)
    if architectures is not None and entry.architecture not in architectures:
        raise InputError(
            f"The weights '{entry.name}' are of the architecture '{entry.architecture}', for another task; "
            f"for this one there are: {_names(architectures)}."
        )
    return path, entry, data


def exported(name: str) -> Path:
    """Return the ONNX file of registered weights, checked like the weights that it takes its numbers from.

    Raises InputError where there is none, or where either is damaged.
    """
    path, entry = find(name)
    if not entry.onnx:
        raise InputError(
            f"The weights '{name}' have no exported form: make it with 'ctenhance weights export {name}'."
        )
    target = path.with_name(entry.onnx["file"])
    _checked_bytes(target, entry.onnx["sha256"])
    return target


def register_export(name: str, opset: int, bfloat16: bool) -> WeightsEntry:
    """Enter the ONNX file that was written beside registered weights into their registry."""
    path, entry = find(name)
    target = path.with_suffix(EXPORTED_SUFFIX)
    onnx = {
        "file": target.name,
        "sha256": hashlib.sha256(_read_bytes(target)).hexdigest(),
        "opset": opset,
        "bfloat16": bfloat16,
    }
    with _changed_registry(path.parent) as lines:
        for line in lines:
            if line.get("name") == entry.name:
                line["onnx"] = onnx
    return replace(entry, onnx=onnx)


def fill(network: nn.Module, tensors: Mapping[str, Tensor], entry: WeightsEntry) -> None:
    """Give a network the tensors that `load` returned with `entry`; InputError where they do not fit."""
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(
            f"The weights '{entry.name}' do not fit their architecture: get the file again."
        ) from error


def verify(name: str) -> WeightsEntry:
    """Return the entry when its file is there and has the registered hash; raises InputError otherwise."""
    path, entry = _find(name)
    _checked_bytes(path, entry.sha256)
    if entry.onnx:
        _checked_bytes(path.with_name(entry.onnx["file"]), entry.onnx["sha256"])
    return entry


def read_entry(path: str | os.PathLike[str]) -> WeightsEntry:
    """Return the entry that a weights file carries, with the hash of the file as it is.

    Raises InputError when the file is missing, is no safetensors or carries no usable entry.
    """
    from safetensors import SafetensorError, safe_open

    source = Path(path)
    if source.suffix != SUFFIX:
        raise InputError(f"'{source}' is no weights file: only {SUFFIX} files are read (no pickled ones).")
    data = _read_bytes(source)
    try:
        with safe_open(source, framework="np") as opened:
            text = (opened.metadata() or {}).get(METADATA_KEY)
    except SafetensorError as error:
        raise InputError(f"The weights file '{source}' is broken ({error}); get it again.") from error
    if text is None:
        raise InputError(
            f"'{source}' does not say what it is: its safetensors metadata has no '{METADATA_KEY}' entry; "
            "use a file that CTEnhance's training wrote."
        )
    try:
        carried = json.loads(text)
    except ValueError as error:
        raise InputError(
            f"The '{METADATA_KEY}' entry in '{source}' is no JSON; train or export again."
        ) from error
    if isinstance(carried, dict):
        carried.pop("onnx", None)  # only a registry can tell of another file
        carried = {**carried, "file": source.name, "sha256": hashlib.sha256(data).hexdigest()}
    return _entry(carried, f"the '{METADATA_KEY}' entry in '{source}'")


def save(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], entry: WeightsEntry) -> WeightsEntry:
    """Write a weights file that carries its own entry, whole or not at all; return the entry with its hash.

    `file` and `sha256` of the given entry are ignored: they follow from the file.
    """
    from safetensors.torch import save_file

    target = Path(path)
    carried = {key: value for key, value in asdict(entry).items() if key not in ("file", "sha256", "onnx")}
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replace_when_done(target) as temporary:
        save_file(whole, temporary, metadata={METADATA_KEY: json.dumps(carried, sort_keys=True)})
    return read_entry(target)


def add(
    path: str | os.PathLike[str], name: str | None = None, folder: str | os.PathLike[str] | None = None
) -> WeightsEntry:
    """Copy a weights file into a registry folder (the user's own unless given) and register it there.

    `name` replaces the name that the file carries. The same file may be added again. Raises InputError for a
    file that `read_entry` refuses, and for a name that other weights have already.
    """
    target_folder = Path(folder).resolve() if folder is not None else user_folder()
    source = Path(path)
    entry = read_entry(source)
    entry = _entry({**asdict(entry), "name": name or entry.name}, f"'{source}'")
    entry = replace(entry, file=entry.name + SUFFIX)
    try:
        target_folder.mkdir(parents=True, exist_ok=True)
        with _changed_registry(target_folder) as lines:
            # The file carries its own name too; under another one only the registry's name counts.
            for known_folder, known in _located({EMBEDDED, user_folder(), target_folder}):
                other = known_folder != target_folder or known.sha256 != entry.sha256
                if known.name == entry.name and other:
                    raise InputError(
                        f"There are other weights called '{entry.name}' already; give another --name."
                    )
            with replace_when_done(target_folder / entry.file) as temporary:
                temporary.write_bytes(_read_bytes(source))
            lines[:] = [*(line for line in lines if line.get("name") != entry.name), asdict(entry)]
    except OSError as error:
        reason = why_not_written(error) or error.strerror or error
        raise CTEnhanceError(f"Cannot copy the weights into '{target_folder}': {reason}.") from error
    return entry


@contextlib.contextmanager
def _changed_registry(folder: Path) -> Iterator[list[dict[str, Any]]]:
    """The entries of a folder's registry, which are written when the block ends as it has left them; until
    then other processes wait, or what one has registered would be lost by another."""
    from filelock import FileLock

    lock = FileLock(folder / _LOCK)
    with contextlib.suppress(OSError, NotImplementedError):  # a network folder without locks
        lock.acquire()
    try:
        registry = _read_registry(folder)
        yield registry["weights"]
        write_text(folder / REGISTRY, json.dumps(registry, indent=2, ensure_ascii=False) + "\n")
    finally:
        lock.release()


def _names(architectures: Collection[str] | None) -> str:
    """The names of the weights that are known, of these architectures alone where they are given."""
    known = [one for _folder, one in _located() if architectures is None or one.architecture in architectures]
    return ", ".join(one.name for one in known) or "none"


def _find(
    name_or_path: str | os.PathLike[str], architectures: Collection[str] | None = None
) -> tuple[Path, WeightsEntry]:
    text = os.fspath(name_or_path)
    if text.endswith(SUFFIX) or os.sep in text or "/" in text:
        return Path(text), read_entry(text)
    for folder, entry in _located():
        if entry.name == text:
            return folder / entry.file, entry
    raise InputError(
        f"There are no weights called '{text}'; there are: {_names(architectures)} (or give the path of a "
        f"{SUFFIX} file)."
    )


def _located(folders: Collection[Path] | None = None) -> list[tuple[Path, WeightsEntry]]:
    found = []
    for folder in folders if folders is not None else (EMBEDDED, user_folder()):
        where = f"the weights registry '{folder / REGISTRY}'"
        found += [(folder, _entry(line, where)) for line in _read_registry(folder)["weights"]]
    return found


def _read_registry(folder: Path) -> dict[str, Any]:
    path = folder / REGISTRY
    if not path.exists():
        return {"version": REGISTRY_VERSION, "default": {}, "weights": []}
    try:
        registry = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"The weights registry '{path}' is unreadable ({error}); mend or delete it."
        ) from error
    if not isinstance(registry, dict) or registry.get("version") != REGISTRY_VERSION:
        raise InputError(
            f"The weights registry '{path}' is not of version {REGISTRY_VERSION}; update CTEnhance."
        )
    if not isinstance(registry.get("weights"), list) or not isinstance(registry.get("default", {}), dict):
        raise InputError(f"The weights registry '{path}' lacks its list of weights; mend or delete it.")
    return registry


def _entry(line: Any, where: str) -> WeightsEntry:
    """Return the entry after checking every field: a registry is a file that anyone may have edited."""
    names = [known.name for known in fields(WeightsEntry)]
    if not isinstance(line, dict):
        raise InputError(f"{_capital(where)} holds an entry that is no object; mend it.")
    missing = [
        known.name
        for known in fields(WeightsEntry)
        if known.default is MISSING and known.default_factory is MISSING and known.name not in line
    ]
    unknown = [str(name) for name in line if name not in names]
    if missing or unknown:
        problem = f"lacks {', '.join(missing)}" if missing else f"has the unknown field {', '.join(unknown)}"
        raise InputError(f"{_capital(where)} {problem} (entry '{line.get('name', '?')}').")
    for name in (name for name in names if name in line and name != "sharpen"):
        kind = dict if name in ("arguments", "onnx", "spread") else str
        if not isinstance(line[name], kind):
            raise InputError(f"{_capital(where)} has a field '{name}' that is no {kind.__name__}.")
    if not _NAME.fullmatch(line["name"]):
        raise InputError(
            f"{_capital(where)} has the name '{line['name']}'; it takes up to 64 of a-z, 0-9, '.', '_', '-'."
        )
    for count, factor in line.get("spread", {}).items():
        if not count.isdecimal() or not _is_number(factor) or not 0 < factor < math.inf:
            raise InputError(
                f"{_capital(where)} has the spread factor '{count}: {factor}' for '{line['name']}', which is "
                "no positive number by a number of draws."
            )
    share = line.get("sharpen", 0.0)
    if not _is_number(share) or not 0 <= share <= 1:
        raise InputError(
            f"{_capital(where)} has the share to sharpen by '{share}' for '{line['name']}', which is none of "
            "0 to 1."
        )
    # The file is opened relative to its registry: anything but a bare name could lead out of the folder.
    for files, suffix in ((line, SUFFIX), (line.get("onnx"), EXPORTED_SUFFIX)):
        if not files:
            continue
        file, sha256 = str(files.get("file", "")), str(files.get("sha256", ""))
        if not file.endswith(suffix) or file.startswith(".") or any(mark in file for mark in "/\\:\0"):
            raise InputError(
                f"{_capital(where)} names the file '{file}', which is no bare {suffix} file name."
            )
        if not _SHA256.fullmatch(sha256):
            raise InputError(f"{_capital(where)} has no valid sha256 for '{line['name']}'.")
    return WeightsEntry(**line)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(
            f"The weights file '{path}' is missing; get it again or choose other weights."
        ) from error
    except OSError as error:
        raise InputError(f"The weights file '{path}' cannot be read ({error.strerror or error}).") from error


def _checked_bytes(path: Path, sha256: str) -> bytes:
    data = _read_bytes(path)
    digest = hashlib.sha256(data).hexdigest()
    if digest != sha256:
        raise InputError(
            f"The weights file '{path}' is not the registered one (sha256 {digest[:12]}… instead of "
            f"{sha256[:12]}…): it is damaged or was changed; get it again."
        )
    return data
