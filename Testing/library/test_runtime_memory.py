"""How much memory a process may still take: what the machine has, and what its limits leave."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import SimpleITK as sitk  # noqa: N813 (its customary name)
from synthetic_dicom import hounsfield

from ctenhance.core.volume import CTVolume
from ctenhance.runtime import memory
from ctenhance.runtime.failures import sentence_and_code
from ctenhance.runtime.memory import free_main_memory, not_enough_memory


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree of control groups of the test's own."""
    monkeypatch.setattr(memory, "_CONTROL_GROUPS", tmp_path)
    monkeypatch.setattr(memory, "_OWN_GROUPS", tmp_path / "own")
    return tmp_path


def version_2(folder: Path, limit: str, used: int, cache: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cache}\nactive_file 7\n")


def version_1(folder: Path, limit: int, used: int, cache: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"inactive_file 3\ntotal_inactive_file {cache}\n")


def test_without_limits_what_the_machine_has(groups: Path) -> None:
    free = psutil.virtual_memory().available
    assert 0.5 * free < free_main_memory() < 2 * free


def test_the_tightest_of_nested_groups_counts(groups: Path) -> None:
    (groups / "own").write_text("0::/job/step/task\n")
    version_2(groups / "job", "9000", 2000)
    version_2(groups / "job" / "step", "5000", 2000)
    version_2(groups / "job" / "step" / "task", "max", 1000)
    assert free_main_memory() == 3000
    version_2(groups / "job" / "step", "5000", 6000)
    assert free_main_memory() == 0
    version_2(groups / "another", "10", 5)  # not ours
    version_2(groups / "job" / "step", "max", 1)
    assert free_main_memory() == 7000


def test_files_that_the_system_keeps_in_memory_are_free(groups: Path) -> None:
    (groups / "own").write_text("0::/job\n")
    version_2(groups / "job", "9000", 8000, cache=5000)
    assert free_main_memory() == 6000


def test_a_container_sees_its_own_root(groups: Path) -> None:
    (groups / "own").write_text("0::/outside/of/the/container\n")
    version_2(groups, "4000", 1000)
    assert free_main_memory() == 3000


def test_version_1(groups: Path) -> None:
    (groups / "own").write_text("9:name=systemd:/\n4:hugetlb,memory:/slurm/job\n0::/\n")
    version_1(groups / "memory", 1 << 62, 10_000)
    version_1(groups / "memory" / "slurm" / "job", 7000, 4000, cache=500)
    assert free_main_memory() == 3500


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems do not keep to these limits")
@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_a_shell_limit_counts(limit: str) -> None:
    script = (
        "import resource; from ctenhance.runtime.memory import free_main_memory, not_enough_memory\n"
        "free_main_memory()\n"
        f"resource.setrlimit(resource.{limit}, (1 << 30, 1 << 30))\n"
        "print(free_main_memory()); print(not_enough_memory('it does not fit'))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    free, sentence = done.stdout.splitlines()
    assert 0 < int(free) < 1 << 30
    assert f"it does not fit into the {int(free) / 2**30:.1f} GB" in sentence


def test_memory_that_runs_out_anywhere_is_one_sentence() -> None:
    sentence, code = sentence_and_code(MemoryError())
    assert sentence.startswith("There is not enough memory: what was to be computed does not fit into the ")
    for words in ("could not create a primitive", "std::bad_alloc", "Failed to allocate memory for image"):
        assert sentence_and_code(RuntimeError(words))[0].startswith(
            "There is not enough memory: what was to be computed"
        )
    # A library that does not fit, as the loader of Linux says it.
    loader = "_SimpleITK.abi3.so: failed to map segment from shared object"
    assert sentence_and_code(ImportError(loader))[0].startswith("There is not enough memory")
    assert sentence_and_code(ImportError("No module named 'x'"))[0].startswith("Something unexpected")
    assert sentence_and_code(RuntimeError("something else"))[0].startswith("Something unexpected")
    assert code == 1 and not_enough_memory("x").endswith("crop the volume.")


def test_a_volume_that_does_not_fit_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    CTVolume(hounsfield(3)).write(tmp_path / "a.nii")

    class Reader(sitk.ImageFileReader):
        def Execute(self) -> None:
            raise RuntimeError("Exception thrown: Failed to allocate memory for image.")

    monkeypatch.setattr(sitk, "ImageFileReader", Reader)
    with pytest.raises(MemoryError):
        CTVolume.read(tmp_path / "a.nii")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems do not keep to these limits")
@pytest.mark.parametrize(
    ("verb", "megabytes"), [("reconstruct", 900), ("degrade", 900), ("enhance", 900), ("dicom", 300)]
)
def test_a_limit_below_what_the_libraries_need_is_one_sentence(
    tmp_path: Path, verb: str, megabytes: int
) -> None:
    """Else torch or OpenBLAS end the process, or another package seems to be missing."""
    CTVolume(hounsfield(3)).write(tmp_path / "a.nii")
    target = {"dicom": "out"}.get(verb, "out.nii")
    script = (
        "import resource, sys\n"
        f"resource.setrlimit(resource.RLIMIT_AS, ({megabytes} << 20, {megabytes} << 20))\n"
        f"sys.argv = ['ctenhance', '{verb}', 'a.nii', '{target}', '--progress', 'none']\n"
        "from ctenhance.cli import main; main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"this process may take {megabytes / 1024:.2f} GB (ulimit), and the libraries need" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii"]


def test_the_sentence_comes_even_where_nothing_can_be_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left() -> int:
        raise MemoryError

    monkeypatch.setattr(memory, "free_main_memory", none_left)
    assert not_enough_memory("it does not fit").startswith(
        "There is not enough memory: it does not fit; close"
    )
