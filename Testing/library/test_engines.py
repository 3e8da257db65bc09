"""Both engines do the same with every embedded network, one is chosen as told, and one needs no torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import ctenhance
from ctenhance.choices import ENHANCE_ARCHITECTURES
from ctenhance.core.volume import CTVolume
from ctenhance.decomposition.scatter import network as scatter
from ctenhance.enhancement.inference import enhance, load_soon
from ctenhance.enhancement.models import load_model
from ctenhance.enhancement.slices import SliceEnhancer
from ctenhance.options import EnhanceOptions
from ctenhance.physics.phantom import chest_phantom
from ctenhance.runtime import weights
from ctenhance.runtime.engines import choice
from ctenhance.runtime.engines.base import BFLOAT16, FLOAT32, in_two_parts
from ctenhance.runtime.engines.choice import pick_engine
from ctenhance.runtime.errors import InputError
from ctenhance.scan.simulate import simulate_projections

pytest.importorskip("openvino", reason="OpenVINO is not installed")

PACKAGE = Path(ctenhance.__file__).parents[1]
#: By which mean HU of the input a tissue is known.
TISSUES = {
    "air": (-2000, -950),
    "lung": (-950, -600),
    "fat": (-150, -50),
    "soft": (0, 100),
    "bone": (300, 2000),
}


@pytest.fixture(scope="module")
def chest() -> CTVolume:
    """A drawn chest with the noise of a low dose, smooth as a kernel makes it."""
    clean = chest_phantom(256, 256, 3, 1.4, seed=2)
    rng = np.random.default_rng(5)
    noise = rng.normal(0, 60, clean.array.shape)
    noise = (noise + np.roll(noise, 1, 1) + np.roll(noise, 1, 2)) / np.sqrt(3)
    return clean.with_array(np.clip(clean.array + noise, -1024, 3071).astype(np.float32))


def change(name: str, engine: str, volume: CTVolume) -> np.ndarray:
    model = load_model(name)
    runner = model.engine(engine, "cpu", 4 if model.stochastic else 1)
    network = model.on(runner, 4 if model.stochastic else 1)
    return SliceEnhancer(model, network, 2048, 3, volume.spacing[2]).changes(volume.array, 1, 2)[0]


@pytest.mark.parametrize("name", ["enhance-twin", "enhance-diffusion", "enhance-detail"])
def test_engines_agree_on_embedded_enhancing_networks(name: str, chest: CTVolume) -> None:
    here, there = change(name, "torch", chest), change(name, f"openvino:{FLOAT32}", chest)
    assert here.std() > 5  # it does something to compare
    assert (there - here).std() < 0.05
    assert abs(float((there - here).mean())) < 0.01


def test_bfloat16_moves_no_tissue(chest: CTVolume) -> None:
    """Held for the networks that the registry allows it, where the processor has it."""
    enhancing = [e for e in weights.entries() if e.architecture in ENHANCE_ARCHITECTURES]
    allowed = [e.name for e in enhancing if e.onnx.get("bfloat16")]
    assert allowed == ["enhance-twin", "enhance-detail"]
    if not load_model(allowed[0]).engine("openvino", "cpu", 1).has_bfloat16:
        pytest.skip("this processor has no bfloat16")
    for model in allowed:
        exact, half = (change(model, f"openvino:{p}", chest) for p in (FLOAT32, BFLOAT16))
        difference = half - exact
        assert 0 < difference.std() < 0.5
        for name, (low, high) in TISSUES.items():
            inside = (chest.array[1] > low) & (chest.array[1] < high)
            assert inside.sum() > 50, name
            assert abs(float(difference[inside].mean())) < 0.1, (model, name)
            assert difference[inside].std() < 0.5, (model, name)


def test_an_exported_network_takes_any_number_of_slices() -> None:
    """A graph that was exported for two slices at once would answer for other numbers without a word."""
    rng = np.random.default_rng(1)
    for name in ("enhance-twin", "enhance-diffusion", "enhance-detail"):
        model = load_model(name)
        network = model.on(model.engine(f"openvino:{FLOAT32}", "cpu", 4 if model.stochastic else 1), 4)
        x = rng.normal(0, 0.03, (3, 3, 128, 64)).astype(np.float32)
        inputs = (x, rng.normal(0, 1, (3, 1, 128, 64)).astype(np.float32)) if model.stochastic else (x,)
        together = network(*inputs).copy()
        assert together.shape == (3, 1, 128, 64)
        for k in range(3):
            alone = network(*(values[k : k + 1] for values in inputs))
            np.testing.assert_allclose(alone, together[k : k + 1], atol=1e-5)


def test_engines_agree_on_both_stages_of_need() -> None:
    phantom = chest_phantom(192, 192, 3, 1.8, seed=3)
    scan = simulate_projections(phantom, dose=0.25, views=240, columns=272, seed=1)
    images = {
        engine: ctenhance.reconstruct(scan, engine=engine, device="cpu", all_stages=True).volumes
        for engine in ("torch", f"openvino:{FLOAT32}", "openvino")
    }
    hu = images["torch"]["reconstruction"].array
    for stage in ("projection", "reconstruction"):
        here, exact, usual = (volumes[stage].array for volumes in images.values())
        assert (exact - here).std() < 0.05
        assert (usual - here).std() < 0.5  # bfloat16 where the processor has it
        for name, (low, high) in TISSUES.items():
            inside = (hu > low) & (hu < high)
            assert inside.sum() > 50, name
            assert abs(float((usual - here)[inside].mean())) < 0.1, name


def test_every_embedded_pipeline_network_is_exported_and_small() -> None:
    for entry in weights.entries():
        if entry.architecture == "scatter-amount-and-place":
            continue  # once a scan, on a coarse grid, amid a torch computation
        path = weights.exported(entry.name)
        assert entry.onnx["opset"] >= 20
        # the numbers stay in the safetensors file
        assert path.stat().st_size < 0.05 * path.with_name(entry.file).stat().st_size + 60_000
        text = path.read_bytes()
        assert entry.file.encode() in text
        assert b".py" not in text and b"/home" not in text  # nothing of the computer that exported it


def test_a_changed_graph_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    for name in ("enhance-twin.safetensors", "enhance-twin.onnx", "registry.json"):
        (folder / name).write_bytes((weights.EMBEDDED / name).read_bytes())
    monkeypatch.setattr(weights, "EMBEDDED", folder)
    assert weights.exported("enhance-twin").parent == folder
    with (folder / "enhance-twin.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(InputError, match="damaged or was changed"):
        weights.exported("enhance-twin")
    with pytest.raises(InputError, match="damaged or was changed"):
        weights.verify("enhance-twin")


@pytest.mark.parametrize(
    "told",
    [{"file": "../x.onnx"}, {"file": "x.exe"}, {"sha256": "12"}],
)
def test_a_registry_cannot_lead_elsewhere(
    told: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = json.loads((weights.EMBEDDED / "registry.json").read_text(encoding="utf-8"))
    registry["weights"][0]["onnx"].update(told)
    (tmp_path / "registry.json").write_text(json.dumps(registry))
    monkeypatch.setattr(weights, "EMBEDDED", tmp_path)
    with pytest.raises(InputError, match=r"no bare|no valid sha256"):
        weights.entries()


@pytest.mark.parametrize(
    ("spec", "device", "exported", "there", "chosen"),
    [
        ("auto", "auto", True, {"torch", "openvino"}, "openvino"),
        ("auto", "cpu", True, {"torch", "openvino"}, "openvino"),
        ("auto", "cpu", False, {"torch", "openvino"}, "torch"),
        ("auto", "cpu", True, {"torch"}, "torch"),
        ("torch", "cpu", True, {"torch", "openvino"}, "torch"),
        ("openvino", "auto", True, {"openvino"}, "openvino"),
        (f"openvino:{FLOAT32}", "cpu", True, {"openvino"}, "openvino"),
    ],
)
def test_choice_of_the_engine(
    spec: str, device: str, exported: bool, there: set[str], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "installed", lambda name: name in there)
    monkeypatch.setattr(choice, "torch_is_better", lambda device: device not in ("auto", "cpu"))
    assert pick_engine(spec, device, exported).name == chosen


@pytest.mark.parametrize(
    ("spec", "device", "exported", "there", "sentence"),
    [
        ("openvino", "cpu", True, {"torch"}, "OpenVINO is not installed"),
        ("openvino", "cuda", True, {"torch", "openvino"}, "no device called 'cuda'"),
        ("openvino", "npu", True, {"torch", "openvino"}, r"not available"),
        ("openvino", "cpu", False, {"torch", "openvino"}, "weights export"),
        ("auto", "cpu", True, set(), "PyTorch is not installed"),
        ("auto", "cpu", False, {"openvino"}, "weights export"),
    ],
)
def test_refusals(
    spec: str, device: str, exported: bool, there: set[str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "installed", lambda name: name in there)
    with pytest.raises(InputError, match=sentence):
        pick_engine(spec, device, exported)


@pytest.mark.parametrize("spec", ["openvino", "auto"])
def test_steps_that_the_exported_form_has_not_are_named(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # To export it again, as other weights are told to, gives the same four steps.
    model = load_model("enhance-diffusion")
    monkeypatch.setattr(choice, "installed", lambda name: name == "openvino")
    with pytest.raises(InputError, match=r"has 4 steps, not 3: leave --steps out, or .* torch") as refused:
        model.engine(spec, "cpu", 3)
    assert "weights export" not in str(refused.value)
    assert ("PyTorch is not installed" in str(refused.value)) == (spec == "auto")
    assert model.engine(spec, "cpu", 4).name == "openvino"


def test_an_unknown_engine_is_refused_at_once() -> None:
    with pytest.raises(InputError, match="no engine called 'tensorrt'"):
        EnhanceOptions(engine="tensorrt")


def test_a_graphics_card_is_torch_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(sys, "platform", "linux")
    assert choice.torch_is_better("auto")
    assert choice.torch_is_better("cuda:1")
    assert not choice.torch_is_better("cpu")


def test_two_parts_add_up() -> None:
    values = np.random.default_rng(0).normal(-1, 0.3, (2, 3, 4)).astype(np.float32)
    upper, lower = in_two_parts(values[:, :, ::-1])
    np.testing.assert_array_equal(upper + lower, values[:, :, ::-1])
    assert torch.equal(torch.from_numpy(upper).bfloat16().float(), torch.from_numpy(upper))
    assert np.abs(lower).max() < 2**-7 * np.abs(values).max()


def test_no_number_is_passed_on(chest: CTVolume) -> None:
    """OpenVINO's ReLU would make 0 of it, and its neighbours tens of HU wrong."""
    model = load_model("enhance-twin")
    network = model.on(model.engine("openvino", "cpu", 1), 1)
    for bad in (np.nan, np.inf):
        x = np.zeros((1, 3, 64, 64), np.float32)
        x[0, 0, 30, 30] = bad
        with pytest.raises(ValueError, match="no finite numbers"), np.errstate(invalid="ignore"):
            network(x)


def test_batched_and_single_slices_are_equal(chest: CTVolume) -> None:
    array = np.concatenate([chest.array, chest.array[::-1] * 0.9])
    for engine in ("torch", f"openvino:{FLOAT32}"):
        model = load_model("enhance-twin")
        enhancer = SliceEnhancer(model, model.on(model.engine(engine, "cpu", 1), 1), 2048, 0, 1.0)
        together = enhancer.changes(array, 0, len(array), draw=3)
        single = np.concatenate([enhancer.changes(array, z, z + 1, draw=3) for z in range(len(array))])
        np.testing.assert_allclose(together, single, atol=2e-3)


def test_slices_side_by_side_are_those_one_after_the_other(
    chest: CTVolume, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With more threads each takes slices of its own; an order that is not kept, or a request that two of
    them use, would show."""
    volume = CTVolume(np.concatenate([chest.array + 10 * k for k in range(5)]), chest.spacing)
    results = {}
    for threads in ("1", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        seen: list[int] = []
        result = enhance(
            volume,
            samples=2,
            uncertainty=True,
            engine="openvino:float32",
            progress=lambda _stage, done, _total, seen=seen: seen.append(done),
        )
        assert result.report["threads"] == int(threads)
        assert seen == list(range(1, len(volume.array) + 1))
        results[threads] = result
    for get in (lambda r: r.volumes["enhanced"], lambda r: r.maps["uncertainty"]):
        one, three = (get(results[threads]).array for threads in ("1", "3"))
        np.testing.assert_allclose(one, three, atol=2e-3)


@pytest.mark.parametrize("shape", [(32, 50), (31, 47), (9, 8)])
def test_engines_agree_on_the_scatter_network(shape: tuple[int, int]) -> None:
    """It says logarithms of factors; `decompose` runs it in torch, which it needs all the same."""
    model = weights.load_model(
        "decompose-scatter", [scatter.ARCHITECTURE], lambda _, arguments: scatter.ScatterNet(**arguments)
    )
    engine = pick_engine(f"openvino:{FLOAT32}", "cpu", bool(model.entry.onnx))
    network = engine.network(weights.exported(model.entry.name), model.entry.name)
    draws = torch.Generator().manual_seed(0)
    features = torch.randn(1, scatter.FEATURES, *shape, generator=draws)
    image = torch.randn(1, len(scatter.IMAGE_UNITS), 33, 61, generator=draws)
    for known, full_turn in ((0, True), (0, False), (1, True), (1, False)):
        features[:, scatter.SPR_KNOWN] = known
        with torch.no_grad():
            here = model.network(features, image, full_turn).numpy()
        there = network(features.numpy(), image.numpy(), np.array([full_turn], np.float32))
        assert here.std() > 0.01
        np.testing.assert_allclose(there, here, atol=1e-5)


WITHOUT_TORCH = """
import sys
from dataclasses import replace

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
from ctenhance.cli import main
sys.argv = ["ctenhance", *sys.argv[1:]]
main()
"""


def test_enhances_with_numpy_simpleitk_and_openvino_alone(chest: CTVolume, tmp_path: Path) -> None:
    source, target, report = (tmp_path / name for name in ("in.nrrd", "out.nii.gz", "report.json"))
    chest.write(source)
    code = WITHOUT_TORCH.format(
        blocked={
            "torch",
            "monai",
            "scipy",
            "safetensors",
            "h5py",
            "matplotlib",
            "einops",
            "pydicom",
            "xraydb",
        }
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "enhance", source, target, "--report", report, "--progress", "none"],
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(report.read_text(encoding="utf-8"))
    assert told["engine"]["name"] == "openvino"
    assert told["engine"]["precision"] in (FLOAT32, BFLOAT16)
    assert told["engine"]["version"] == told["versions"]["openvino"].split("-")[0]
    here = ctenhance.enhance(chest, engine="torch", device="cpu").volumes["enhanced"].array
    assert (CTVolume.read(target).array - here).std() < 0.5


def test_enhancing_imports_no_torch(chest: CTVolume, tmp_path: Path) -> None:
    """Where both are installed, torch (seconds) and what else is not used stay out."""
    chest.write(tmp_path / "in.nrrd")
    code = (
        "import sys; from ctenhance.core.volume import CTVolume; import ctenhance; "
        "ctenhance.enhance(CTVolume.read(sys.argv[1]), device='cpu'); "
        "print(sorted({'torch', 'monai', 'scipy', 'matplotlib', 'pydicom'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "in.nrrd"],
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_importing_the_engine_reports_to_nobody(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    reporter = tmp_path / "openvino_telemetry"
    reporter.mkdir()
    (reporter / "__init__.py").write_text(
        "import pathlib\npathlib.Path(__file__).with_name('imported').touch()\nraise ImportError\n"
    )
    paths = [str(tmp_path), str(Path(ctenhance.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}

    def run(code: str) -> None:
        subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)

    run("import ctenhance.runtime.engines.openvino_engine")
    assert not (reporter / "imported").exists()
    run("import openvino")
    assert (reporter / "imported").exists()  # else this test could not fail


def test_a_network_that_was_loaded_before_is_taken_once(
    chest: CTVolume, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ctenhance.runtime.engines.openvino_engine import OpenVinoEngine

    made: list[str] = []
    network = OpenVinoEngine.network

    def counted(self: OpenVinoEngine, path: Path, name: str, at_once: int = 1) -> object:
        made.append(self.precision)
        return network(self, path, name, at_once)

    options = EnhanceOptions(engine="openvino:float32", device="cpu")
    expected = enhance(chest, options=options).volumes["enhanced"].array
    monkeypatch.setattr(OpenVinoEngine, "network", counted)
    load_soon(options)
    np.testing.assert_array_equal(enhance(chest, options=options).volumes["enhanced"].array, expected)
    assert made == ["float32"]
    enhance(chest, options=options)
    assert made == 2 * ["float32"]
    # one for other settings is of no use, and one that cannot be is refused by the run itself
    load_soon(replace(options, engine="openvino"))
    np.testing.assert_array_equal(enhance(chest, options=options).volumes["enhanced"].array, expected)
    wrong = replace(options, model="none-of-this-name")
    load_soon(wrong)
    with pytest.raises(InputError, match="none-of-this-name"):
        enhance(chest, options=wrong)
    np.testing.assert_array_equal(enhance(chest, options=options).volumes["enhanced"].array, expected)


FIRST_USE = """
import os, threading
import numpy as np
import ctenhance.runtime.engines.openvino_engine
import openvino

def use():
    start.wait()
    openvino.Type.f32.to_dtype()
    openvino.Tensor(np.zeros(1, np.float32))

start = threading.Barrier(2)
both = [threading.Thread(target=use, daemon=True) for _ in range(2)]
for one in both:
    one.start()
for one in both:
    one.join(30)
os._exit(any(one.is_alive() for one in both))
"""


@pytest.mark.parametrize("attempt", range(8))
def test_the_first_slices_do_not_wait_for_each_other(attempt: int) -> None:
    """Two threads at once at openvino's first look at numpy's types: one start in three hung for ever."""
    environment = {**os.environ, "PYTHONPATH": str(Path(ctenhance.__file__).parents[1])}
    assert subprocess.run([sys.executable, "-c", FIRST_USE], env=environment).returncode == 0
