"""Weights: found by name or path, checked, and refused with a sentence when anything is wrong."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from ctenhance.runtime import weights
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.weights import WeightsEntry, add, default_name, entries, load, read_entry, save, verify

TENSORS = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.bias": torch.ones(2, dtype=torch.float16)}


def entry(**changes: Any) -> WeightsEntry:
    base = WeightsEntry(
        name="twin-test",
        file="",
        sha256="",
        licence="CC BY 4.0",
        trained_on="a phantom",
        architecture="twin",
        arguments={"width": 8},
        version="1",
        card="docs/cards/twin.md",
    )
    return replace(base, **changes)


@pytest.fixture
def embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one registered weights file, in place of the package's own."""
    folder = tmp_path / "embedded"
    folder.mkdir()
    line = asdict(save(folder / "twin-test.safetensors", TENSORS, entry()))
    registry = {"version": 1, "default": {"enhance": "twin-test"}, "weights": [line]}
    (folder / "registry.json").write_text(json.dumps(registry))
    monkeypatch.setattr(weights, "EMBEDDED", folder)
    return folder


def edit(folder: Path, **changes: Any) -> None:
    registry = json.loads((folder / "registry.json").read_text(encoding="utf-8"))
    registry["weights"][0].update(changes)
    (folder / "registry.json").write_text(json.dumps(registry))


def test_the_package_s_own_registry_is_sound() -> None:
    names = [known.name for known in entries()]
    assert len(set(names)) == len(names)
    for known in entries():
        verify(known.name)
    registered = {known.file for known in entries()}
    assert registered == {path.name for path in weights.EMBEDDED.glob("*.safetensors")}
    registry = json.loads((weights.EMBEDDED / "registry.json").read_text(encoding="utf-8"))
    assert set(registry["default"].values()) <= set(names)


def test_save_and_load_by_path(tmp_path: Path) -> None:
    saved = save(tmp_path / "my.safetensors", TENSORS, entry())
    tensors, found = load(tmp_path / "my.safetensors")
    assert found == saved and found.file == "my.safetensors" and len(found.sha256) == 64
    assert set(tensors) == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype and torch.equal(tensors[name], tensor)
    assert os.listdir(tmp_path) == ["my.safetensors"]


def test_save_takes_views_and_other_layouts(tmp_path: Path) -> None:
    image = torch.arange(120.0).reshape(2, 3, 4, 5)
    given_tensors = {
        "view": image[:, 1:],
        "last": image.to(memory_format=torch.channels_last),
        "grad": torch.ones(2, requires_grad=True),
    }
    save(tmp_path / "a.safetensors", given_tensors, entry())
    tensors, _found = load(tmp_path / "a.safetensors")
    assert all(torch.equal(tensors[name], tensor) for name, tensor in given_tensors.items())


def test_load_by_name(embedded: Path) -> None:
    tensors, found = load("twin-test", architectures={"twin"})
    assert found.name == "twin-test" and torch.equal(tensors["layer.bias"], TENSORS["layer.bias"])
    assert verify("twin-test") == found
    assert default_name("enhance") == "twin-test"
    with pytest.raises(InputError, match="no default weights for 'reconstruct'"):
        default_name("reconstruct")


def test_unknown_name_lists_the_known_ones(embedded: Path) -> None:
    with pytest.raises(InputError, match=r"no weights called 'twim'; there are: twin-test"):
        load("twim")


def test_unknown_architecture(embedded: Path) -> None:
    with pytest.raises(
        InputError, match="architecture 'twin', for another task; for this one there are: none"
    ):
        load("twin-test", architectures=["b", "a"])
    with pytest.raises(InputError, match="there are: none"):
        load("twin-test", architectures=[])


def test_changed_file(embedded: Path) -> None:
    path = embedded / "twin-test.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    for use in (load, verify):
        with pytest.raises(InputError, match="not the registered one"):
            use("twin-test")


def test_missing_file(embedded: Path) -> None:
    (embedded / "twin-test.safetensors").unlink()
    for use in (load, verify):
        with pytest.raises(InputError, match="is missing"):
            use("twin-test")
    with pytest.raises(InputError, match="is missing"):
        load("nowhere/else.safetensors")


@pytest.mark.parametrize(
    "file",
    ["../evil.safetensors", "/etc/evil.safetensors", "a/b.safetensors", "..\\evil.safetensors",
     "C:evil.safetensors", ".safetensors", "..safetensors", "twin.pt", "twin.safetensors\0.pt", ""],
)  # fmt: skip
def test_registry_cannot_lead_out_of_its_folder(embedded: Path, file: str) -> None:
    edit(embedded, file=file)
    for use in (load, verify):
        with pytest.raises(InputError, match=r"no bare \.safetensors file name"):
            use("twin-test")
    with pytest.raises(InputError):
        entries()


@given(file=st.text(max_size=20))
def test_any_accepted_file_name_stays_inside(file: str) -> None:
    line = {**asdict(entry(sha256="0" * 64)), "file": file}
    try:
        accepted = weights._entry(line, "a test")
    except InputError:
        return
    folder = Path("/registry")
    assert Path(os.path.normpath(folder / accepted.file)).parent == folder


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sha256": "short"}, "no valid sha256"),
        ({"name": "../x"}, "has the name"),
        ({"name": "UPPER"}, "has the name"),
        ({"name": ""}, "has the name"),
        ({"arguments": []}, "'arguments' that is no dict"),
        ({"licence": 5}, "'licence' that is no str"),
        ({"surprise": 1}, "unknown field surprise"),
        ({"sharpen": -0.1}, "the share to sharpen by '-0.1'"),
        ({"sharpen": 1.5}, "the share to sharpen by '1.5'"),
        ({"sharpen": float("nan")}, "the share to sharpen by 'nan'"),
        ({"sharpen": "0.2"}, "the share to sharpen by '0.2'"),
        ({"sharpen": True}, "the share to sharpen by 'True'"),
    ],
)
def test_broken_registry_lines(embedded: Path, changes: dict[str, Any], sentence: str) -> None:
    edit(embedded, **changes)
    with pytest.raises(InputError, match=sentence):
        entries()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "is unreadable"),
        ("[]", "is not of version 1"),
        ('{"version": 2, "weights": []}', "is not of version 1"),
        ('{"version": 1}', "lacks its list"),
        ('{"version": 1, "weights": [5]}', "no object"),
        ('{"version": 1, "weights": [{"name": "a"}]}', "lacks file, sha256"),
    ],
)
def test_broken_registries(embedded: Path, text: str, sentence: str) -> None:
    (embedded / "registry.json").write_text(text)
    with pytest.raises(InputError, match=sentence):
        entries()


@given(data=st.binary(max_size=200))
def test_any_bytes_are_refused_with_a_sentence(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("bytes") / "x.safetensors"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"is broken|does not say what it is"):
        load(path)


def test_files_that_do_not_say_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file(TENSORS, path)
    with pytest.raises(InputError, match="does not say what it is"):
        read_entry(path)
    for text, sentence in [("{", "is no JSON"), ("[1]", "no object"), ("{}", "lacks name")]:
        save_file(TENSORS, path, metadata={"ctenhance": text})
        with pytest.raises(InputError, match=sentence):
            load(path)
    other = tmp_path / "x.pt"
    other.write_bytes(b"PK")
    with pytest.raises(InputError, match=r"only \.safetensors files are read"):
        load(str(other))
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        load(tmp_path / "folder.safetensors")


def test_truncated_file(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save(path, TENSORS, entry())
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match="is broken"):
        load(path)


def test_add_makes_weights_known_by_name(tmp_path: Path, embedded: Path) -> None:
    own = tmp_path / "run" / "best.safetensors"
    own.parent.mkdir()
    save(own, TENSORS, entry(name="mine"))
    added = add(own)
    assert added.name == "mine" and added.file == "mine.safetensors"
    assert weights.user_folder() == Path(os.environ["CTENHANCE_HOME"]) / "weights"
    assert [known.name for known in entries()] == ["twin-test", "mine"]
    own.unlink()  # a copy was made
    tensors, found = load("mine")
    assert found == added and set(tensors) == set(TENSORS)


def test_add_again_and_under_other_names(tmp_path: Path, embedded: Path) -> None:
    own = tmp_path / "best.safetensors"
    save(own, TENSORS, entry(name="mine"))
    assert add(own) == add(own)
    assert add(own, "also-mine").name == "also-mine"
    assert load("also-mine")[1].name == "also-mine"
    assert sorted(known.name for known in entries()) == ["also-mine", "mine", "twin-test"]
    save(own, {"other": torch.zeros(1)}, entry(name="mine"))
    with pytest.raises(InputError, match="other weights called 'mine' already"):
        add(own)
    with pytest.raises(InputError, match="other weights called 'twin-test'"):
        add(own, "twin-test")
    with pytest.raises(InputError, match="has the name 'a/b'"):
        add(own, "a/b")
    assert "other" not in load("mine")[0]


def test_add_to_a_given_registry(tmp_path: Path, embedded: Path) -> None:
    own = tmp_path / "best.safetensors"
    save(own, TENSORS, entry(name="second"))
    add(own, folder=embedded)
    assert [known.name for known in entries()] == ["twin-test", "second"]
    assert default_name("enhance") == "twin-test"  # the default stays
    assert not weights.user_folder().exists()


def test_home_is_the_user_s_without_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CTENHANCE_HOME")
    assert weights.user_folder() == Path.home() / ".ctenhance" / "weights"


def test_two_that_add_weights_at_once_lose_none(
    embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, write = tmp_path / "registry", weights.write_text
    for name in ("first", "second"):
        save(tmp_path / f"{name}.safetensors", TENSORS, entry(name=name))
    second = threading.Thread(target=add, args=(tmp_path / "second.safetensors", None, folder))

    def wait_and_write(path: Path, text: str) -> None:
        if second.ident is None:
            second.start()
            second.join(0.5)  # unless it waits, it has written by then what the first does not know
        write(path, text)

    monkeypatch.setattr(weights, "write_text", wait_and_write)
    add(tmp_path / "first.safetensors", folder=folder)
    second.join()
    registry = json.loads((folder / "registry.json").read_text(encoding="utf-8"))
    assert {line["name"] for line in registry["weights"]} == {"first", "second"}
