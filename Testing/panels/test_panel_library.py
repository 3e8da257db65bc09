"""What of CTEnhanceLib needs no clicks: estimates, device lists, requirements, models, hidden nodes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import psutil
import pytest

from view_titles import titleActors, titles

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _library(app: Any) -> None:
    """The application stands before the library is imported."""
    from CTEnhanceLib.process import worker

    assert worker.PACKAGE_FOLDER.name == "CTEnhance"


def test_time_left_counts_from_the_first_step() -> None:
    from CTEnhanceLib.process.worker import TimeLeft

    now = [0.0]
    left = TimeLeft(lambda: now[0])
    now[0] = 60.0  # the model was loading
    assert left("enhance", 1, 11) is None
    now[0] = 64.0
    assert left("enhance", 3, 11) == pytest.approx(16.0)
    assert left("write", 0, 1) is None


def test_no_time_is_promised_while_models_load() -> None:
    from CTEnhanceLib.process.worker import Worker

    told: list[Any] = []
    worker = Worker(*[lambda *_: None] * 3, told.append, {"read": 1, "enhance": 9})
    for done in (1, 2, 3):
        worker._take(f'{{"event": "progress", "stage": "read", "done": {done}, "total": 3}}')
    assert told[1].stage == "read" and told[1].secondsLeft is not None
    assert told[2].stage == "prepare" and told[2].secondsLeft is None and told[2].percent == 10


def test_durations_in_words() -> None:
    from CTEnhanceLib.process.texts import durationText

    assert [durationText(seconds) for seconds in (0.1, 59, 150, 7200)] == ["1 s", "59 s", "2 min", "2.0 h"]


def test_graphics_cards_of_nvidia_smi() -> None:
    from CTEnhanceLib.process.devices import parseCards

    text = "0, NVIDIA RTX A4000, 14336, 16376\n1, Tesla T4, [N/A], [N/A]\nFailed to initialize NVML\n"
    cards = parseCards(text)
    assert [card.spec for card in cards] == ["cuda:0", "cuda:1"]
    assert cards[0].text == "NVIDIA RTX A4000, 14.0 of 16.0 GB free"
    assert cards[1].text == "Tesla T4"
    assert not any(card.isCPU for card in cards)


def test_the_processor_stands_once_for_each_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    from CTEnhanceLib.process import devices

    def listed(torch: bool, engines: bool) -> list[tuple[str, str]]:
        monkeypatch.setattr(devices, "torchInstalled", lambda: torch)
        monkeypatch.setattr(devices.platform, "system", lambda: "Linux")
        return [(device.spec, device.text.split(",")[0]) for device in devices.computer(engines)]

    plain = ("cpu", "Processor (CPU)")
    openvino, torch = (
        ("cpu", "Processor (CPU) with OpenVINO"),
        ("cpu by torch", "Processor (CPU) with PyTorch"),
    )
    assert listed(torch=True, engines=False) == [plain]
    assert listed(torch=False, engines=True) == [openvino]
    assert listed(torch=True, engines=True) == [openvino, torch]
    assert all(device.isCPU for device in devices.computer(True))


def test_what_a_device_of_the_list_means_to_the_command() -> None:
    from ctenhance.options import EnhanceOptions
    from CTEnhanceLib.process.devices import deviceOptions, onProcessor

    for spec, device, engine in (
        ("auto", "auto", "auto"),
        ("cpu", "cpu", "auto"),
        ("cpu by torch", "cpu", "torch"),
        ("cuda:1", "cuda:1", "auto"),
    ):
        options = EnhanceOptions(**deviceOptions(spec))
        assert (options.device, options.engine) == (device, engine)
        assert onProcessor(spec) is (device == "cpu")


def test_requirements(tmp_path: Path) -> None:
    from CTEnhanceLib.process import dependencies

    path = tmp_path / "requirements.txt"
    path.write_text("# a comment\nnumpy>=1.0\nno-such-package>=2\nother; python_version < '3'\n")
    assert dependencies.missing(path) == ["no-such-package>=2"]
    with pytest.raises(dependencies.CTEnhanceError, match="no-such-package"):
        dependencies.require(path)
    assert dependencies._asInstalled(["numpy", "no-such-package"])[0].startswith("numpy==")


def test_requirements_of_the_panel_are_met_where_the_library_is(repository: Path) -> None:
    from CTEnhanceLib.process import dependencies

    assert dependencies.missing(repository / "CTEnhance" / "Resources" / "requirements.txt") == []


@pytest.fixture
def repository() -> Path:
    return Path(__file__).resolve().parents[2]


def test_declined_installation_installs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import slicer

    from CTEnhanceLib.process import dependencies

    path = tmp_path / "requirements.txt"
    path.write_text("no-such-package\n")
    monkeypatch.setattr(dependencies, "torchInstalled", lambda: True)
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *_arguments, **_named: False)
    assert dependencies.ensure(path, "CT Enhance") is False


def test_versions_of_packages_are_what_the_library_says() -> None:
    import importlib.metadata

    from CTEnhanceLib.process import dependencies

    names = {found.metadata["Name"] for found in importlib.metadata.distributions()} - {None}
    assert len(names) > 10
    for name in names:
        assert dependencies._version(name) == importlib.metadata.version(name), name
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        dependencies._version("no-such-package")


def test_a_torch_too_old_for_all_others_is_told_before_anything_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from CTEnhanceLib.process import dependencies

    path = tmp_path / "requirements.txt"
    path.write_text("no-such-package\n")
    monkeypatch.setattr(dependencies, "torchInstalled", lambda: True)
    monkeypatch.setattr(dependencies, "_install", lambda *_: pytest.fail("nothing may be installed"))
    version = dependencies._version
    for old in ("2.2.2", "2.4.0+cu121"):
        monkeypatch.setattr(
            dependencies,
            "_version",
            lambda name, v=old: v if name == "torch" else version(name),
        )
        for act in (lambda: dependencies.ensure(path, "CT Enhance"), lambda: dependencies.require(path)):
            with pytest.raises(dependencies.CTEnhanceError, match=r"PyTorch 2\.\d.*too old.*>=2\.4\.1"):
                act()
    monkeypatch.setattr(dependencies, "_version", lambda name: "2.6.0+cu124")
    dependencies.requireNewTorch()


def test_only_enhancing_models_are_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    from CTEnhanceLib.panel import modelchoice as models

    def entry(name: str, architecture: str) -> Any:
        return models.weights.WeightsEntry(name, "", "", "MIT", "scans", architecture, {}, "1", "")

    known = [entry("a", "autoencoder"), entry("b", "residual-diffusion"), entry("c", "twin")]
    monkeypatch.setattr(models.weights, "entries", lambda: known)
    monkeypatch.setattr(models.weights, "default_name", lambda verb: "c")
    offered = models.installedModels("enhance", ["twin", "residual-diffusion"])
    assert [model.key for model in offered] == ["c", "b"]
    assert offered[0].text == "c (default)" and "scans" in offered[0].explanation


def test_models_have_names_for_people(app: Any) -> None:
    from ctenhance import choices
    from CTEnhanceLib.panel.modelchoice import installedModels

    offered = installedModels("enhance", choices.ENHANCE_ARCHITECTURES)
    assert [(model.key, model.text) for model in offered] == [
        ("enhance-twin", "Standard (default)"),
        ("enhance-diffusion", "Diffusion"),
        ("enhance-detail", "Detail"),
    ]
    for model in offered:  # the technical name, and on what it was trained, are in the tooltip
        assert model.key in model.explanation and "Trained on" in model.explanation
        assert "pass" in model.explanation.split(".")[0]


def test_old_leftovers_go_and_others_stay(tmp_path: Path) -> None:
    from CTEnhanceLib.process.transfer import removeLeftovers

    for name, days in (("ctenhance-old", 10), ("ctenhance-new", 0), ("other-old", 10)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "input.mha").write_bytes(b"voxels")
        then = time.time() - days * 86400
        os.utime(folder, (then, then))
    removeLeftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ctenhance-new", "other-old"]


# What a Slicer does that is killed in the middle of a run: PanelLogic.process begins it, then it hangs.
KILLED = """
import sys, threading, time
import numpy as np
import slicerhost

slicerhost.start()
import slicer
from ctenhance.options import EnhanceOptions
from CTEnhanceLib.enhance.job import EnhanceJob
from CTEnhanceLib.process.run import Run

node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "chest")
noise = np.random.default_rng(0).normal(0, 20, (400, 128, 128))
noise[:, :40] -= 1000
slicer.util.updateVolumeFromArray(node, noise.astype(np.int16))
none = lambda *given: None
run = Run(EnhanceJob(node, None, EnhanceOptions(model=sys.argv[1], device="cpu")), none, none, print, none)
run.start()
while run.active:
    slicer.app.processEvents()
    time.sleep(0.01)
    worker = run._worker
    if worker is not None and worker._percent > 2:  # it has begun to compute
        print(slicer.app.temporaryPath, flush=True)
        threading.Event().wait()
"""


def test_the_worker_of_a_killed_slicer_ends_and_its_folder_goes(model: Path) -> None:
    from CTEnhanceLib.process.transfer import removeLeftovers

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY / "CTEnhance"), *sys.path])}
    killed = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(model)], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert killed.stdout is not None
        root = Path(killed.stdout.readline().strip())
        (folder,) = root.glob("ctenhance-*")
        workers = psutil.Process(killed.pid).children(recursive=True)
        assert workers and (folder / "input.mha").stat().st_size > 400 * 128 * 128 * 2
        removeLeftovers(root)
        assert (folder / "input.mha").exists()  # this Slicer still runs
    finally:
        killed.kill()
        killed.wait()
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive
    (root / "ctenhance-link").symlink_to(REPOSITORY)  # no folder of a run
    removeLeftovers(root)
    assert not folder.exists() and (REPOSITORY / "README.md").exists()
    shutil.rmtree(root)


def test_large_files_go_in_steps_and_no_others(tmp_path: Path) -> None:
    from CTEnhanceLib.process import transfer

    own, series = tmp_path / "run", tmp_path / "series"
    for folder in (own / "patient", series):
        folder.mkdir(parents=True)
    size = 3 * transfer._LARGE_FILE + 1
    for path in (own / "input.mha", series / "1.dcm"):
        with path.open("wb") as stream:
            stream.truncate(size)
    (own / "report-0.json").write_text("{}")
    # Links to a patient's own files, as an export gathers them.
    os.link(series / "1.dcm", own / "patient" / "00000.dcm")
    os.link(series / "1.dcm", own / "linked.dcm")
    parts = list(transfer.emptied(own))
    assert len(parts) > 2 and parts == sorted(parts) and parts[-1] == 1
    assert sorted(path.name for path in own.iterdir()) == ["linked.dcm", "patient", "report-0.json"]
    assert (series / "1.dcm").stat().st_size == size


def test_a_reference_to_a_hidden_node_that_is_gone_counts_no_more() -> None:
    import slicer

    from CTEnhanceLib.scene import placing

    result, full, stranger = (
        slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name) for name in "rfs"
    )
    placing.referToHidden(result, placing.FULL_ROLE, full)
    assert placing.fullEffectOf(result) is full
    # As after loading a scene, where another node got the identifier.
    result.SetNodeReferenceID(placing.FULL_ROLE, stranger.GetID())
    assert placing.fullEffectOf(result) is None
    assert placing.dependentsOf(result) == []


def test_process_zero_is_nobodys_worker() -> None:
    from CTEnhanceLib.process.worker import ProcessTree

    assert ProcessTree(0).alive() == []


def test_views_of_one_width_have_titles_in_their_images(app: Any) -> None:
    from CTEnhanceLib.views.drawing import oneByOne
    from CTEnhanceLib.views.linked import LinkedViews
    from CTEnhanceLib.views.view import View

    linked, other = LinkedViews(), LinkedViews()
    views = (View("HostFirst", "First image", "#8C8C8C"), View("HostBare", "Bare", "#8C8C8C", titled=False))
    for shower in (linked, other, linked):  # whoever shows a view, it has one title
        shower.show(7190, views)
    node = app.layoutManager().sliceWidget("HostFirst").mrmlSliceNode()
    assert node.GetLayoutLabel() == "F"  # a narrow view's bar cuts longer ones off
    assert titles("HostFirst") == ["First image"] and titles("HostBare") == []
    linked.setLabel("HostFirst", "70 keV")
    assert titles("HostFirst") == ["70 keV"]
    view = app.layoutManager().sliceWidget("HostFirst").sliceView()
    (actor,) = titleActors("HostFirst")
    sizes, shown = [], []
    long = "chest_LIDC-IDRI_0005_GE-LightSpeedPlus_STANDARD_" * 4 + "enhanced (Standard), strength 25 %"
    for text in ("70 keV", long, "40 keV", long.replace("25 %", "38 %")):  # with other digits, as long
        linked.setLabel("HostFirst", text)
        oneByOne.finish()
        view.forceRender()
        sizes.append(actor.GetTextProperty().GetFontSize())
        width, height = view.renderWindow().GetSize()
        box = [0.0] * 4
        actor.GetBoundingBox(view.renderWindow().GetRenderers().GetFirstRenderer(), box)
        x, y = (part * length for part, length in zip(actor.GetPosition(), (width, height), strict=True))
        assert 0 <= x + box[0] < x + box[1] <= width
        assert height - 40 < y + box[2] < y + box[3] < height
        shown.append(actor.GetInput())
    assert sizes[1] < sizes[0] == sizes[2]
    assert sizes[1] >= 10  # still to be read
    for text, percent in ((shown[1], 25), (shown[3], 38)):
        name, strength = text.split("\n")
        assert (
            "…" in name and name.endswith("enhanced (Standard), ") and strength == f" strength {percent} % "
        )
    layout = app.layoutManager().layoutLogic().GetLayoutNode().GetLayoutDescription(7190)
    assert layout.count('<item splitSize="500">') == len(views)
    linked.leave()


def test_views_of_another_group_are_linked_again(app: Any) -> None:
    from CTEnhanceLib.views.linked import LinkedViews
    from CTEnhanceLib.views.view import View

    linked, views = LinkedViews(), (View("HostOne", "One", "#8C8C8C"), View("HostTwo", "Two", "#4CA64C"))
    linked.show(7191, views)
    first, second = (app.layoutManager().sliceWidget(view.name) for view in views)
    # As after a scene was loaded that brought the view.
    first.mrmlSliceNode().SetViewGroup(1)
    first.mrmlSliceNode().SetLayoutLabel("X")
    linked.leave()
    linked.show(7191, views)
    app.processEvents()  # then they are linked
    first.sliceController().setSliceOffsetValue(12.0)
    assert second.sliceLogic().GetSliceOffset() == 12.0
    assert first.mrmlSliceNode().GetLayoutLabel() == "O"
    linked.leave()


def test_rows_fit_into_the_width_of_all_panels(app: Any, repository: Path) -> None:
    import ctk
    import slicer
    from PySide6 import QtWidgets

    from CTEnhanceLib.panel.base import WIDTH

    for form in sorted((repository / "CTEnhance" / "Resources" / "UI").glob("*.ui")):
        widget = slicer.util.loadUI(str(form))
        widget.show()
        app.processEvents()
        for section in widget.findChildren(ctk.ctkCollapsibleButton):
            least = QtWidgets.QWidget.minimumSizeHint(section).width()
            assert least <= WIDTH - 2 * 11, (form.name, section.text, least)  # the margins about it
        widget.close()


def test_no_two_fields_of_a_form_share_a_place(repository: Path) -> None:
    forms = sorted((repository / "CTEnhance" / "Resources" / "UI").glob("*.ui"))
    assert len(forms) > 5
    for layout in (layout for form in forms for layout in ElementTree.parse(form).iter("layout")):
        places = [(item.get("row"), item.get("column")) for item in layout.findall("item") if item.get("row")]
        assert len(places) == len(set(places)), layout.get("name")


def test_one_is_not_several(app: Any) -> None:
    from CTEnhanceLib.measure.roi import sizeText
    from CTEnhanceLib.scene.plural import plural

    assert sizeText(1, 1) == "1 voxel in one slice" and sizeText(12, 3) == "12 voxels in 3 slices"
    assert [plural(n, "1 square of {mm} mm", "{count} squares of {mm} mm", mm=9) for n in (0, 1, 2)] == [
        "0 squares of 9 mm", "1 square of 9 mm", "2 squares of 9 mm",
    ]  # fmt: skip


def test_titles_are_read_on_white_images(app: Any) -> None:
    """White letters on the darkened colour of each view, through which the image shines a little."""
    from CTEnhanceLib.compare import modes
    from CTEnhanceLib.decompose import views
    from CTEnhanceLib.panel.styles import contrast
    from CTEnhanceLib.reconstruct import stages
    from CTEnhanceLib.views.title import _DARKER, _OPACITY

    shown = [*modes.allViews(), *views.allViews(), *stages.stageViews().values(), stages.sinogramView()]
    assert len({view.color for view in shown}) > 4
    for view in shown:
        ground = tuple(round(255 * (_OPACITY * _DARKER * part + 1 - _OPACITY)) for part in view.rgb())
        assert contrast((255, 255, 255), ground) >= 4.5, view
