"""`ctenhance serve-dicom`: takes series from peers, works on them, sends on; nothing lost, nothing twice."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless
from synthetic_dicom import dataset, hounsfield, write_series
from typer.testing import CliRunner

from ctenhance.cli import app
from ctenhance.core.volume import CTVolume
from ctenhance.runtime.errors import InputError

pytest.importorskip("pynetdicom", reason="pynetdicom is not installed")

from dicom_service import Running, archive, free_port, send

from ctenhance.service.settings import read_settings
from ctenhance.service.store import Job, Store, key_of

_MB = 1 << 20


def series(folder: Path, count: int = 4, **changes: Any) -> list[Path]:
    write_series(folder, depths=[2.5 * index for index in range(count)], **changes)
    return sorted(folder.iterdir())


def datasets(come: dict[str, list[bytes]]) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(io.BytesIO(versions[0])) for versions in come.values()]


def test_a_series_is_received_enhanced_and_sent_on(tmp_path: Path):
    """By the ordinary command; again is not twice, and no name stands in the log or the counters."""
    files = series(tmp_path / "ct", SeriesDescription="Thorax of SECRET-7")
    with archive() as (port, come), Running(tmp_path / "run", port) as service:
        assert send(service.port, files) == [0] * 4
        service.until(lambda now: now.get("jobs_sent") == 1)
        made = datasets(come)
        assert len(made) == 4 and all(len(versions) == 1 for versions in come.values())
        assert {one.SeriesInstanceUID for one in made} & {
            pydicom.dcmread(files[0]).SeriesInstanceUID
        } == set()
        assert {str(one.PatientID) for one in made} == {"SECRET-7"}
        assert all(one.ImageType[0] == "DERIVED" and "Research use only" in one.ImageComments for one in made)
        sources = {one.SourceImageSequence[0].ReferencedSOPInstanceUID for one in made}
        assert sources == {pydicom.dcmread(path).SOPInstanceUID for path in files}
        # The same images again: answered, and that is all.
        assert send(service.port, list(reversed(files))) == [0] * 4
        time.sleep(2.0)
        health = service.until(lambda now: now["repeated"] == 4 and now["now_open_series"] == 0)
        assert health["ok"] and health["jobs_sent"] == 1 and len(come) == 4
        assert "ctenhance_dicom_received 4\n" in service.ask("metrics")
        told = service.log.read_text() + service.ask("metrics") + json.dumps(health)
        assert "SECRET" not in told and "Nobody" not in told and "1.2." not in told
        names = " ".join(str(path) for path in (tmp_path / "run").rglob("*"))
        assert "SECRET" not in names and str(pydicom.dcmread(files[0]).SeriesInstanceUID) not in names
    # What was made is what the command makes of it by itself.
    for one in made:
        (tmp_path / "come").mkdir(exist_ok=True)
        one.save_as(tmp_path / "come" / f"{one.InstanceNumber}.dcm", enforce_file_format=True)
    np.testing.assert_allclose(
        CTVolume.read(tmp_path / "come").array, CTVolume.read(tmp_path / "ct").array, atol=1
    )


def parted(folder: Path, count: int = 4) -> list[Path]:
    """A scan whose anonymiser gave each of its files a series of its own."""
    files = series(folder, count)
    for number, path in enumerate(files):
        found = pydicom.dcmread(path)
        found.SeriesInstanceUID = f"1.2.3.{number}"
        found.save_as(path)
    return files


def test_slices_that_are_each_a_series_are_not_worked_on_one_by_one(tmp_path: Path):
    files = parted(tmp_path / "ct")
    with archive() as (port, come), Running(tmp_path / "run", port) as service:
        assert send(service.port, files) == [0] * 4
        health = service.until(lambda now: now["now_open_series"] == 0)
        assert not health["ok"] and health["now_scans_in_parts"] == 1 and not come
        assert sum('set "series_by": "SeriesNumber"' in why for why in health["failed"]) == 1
        assert not any(name.startswith("now_jobs") for name in health)
        assert service.log.read_text().count("a SeriesInstanceUID of its own") == 1


def test_slices_that_are_each_a_series_are_one_by_their_number(tmp_path: Path):
    files = parted(tmp_path / "ct")
    settings = {"series_by": "SeriesNumber"}
    with archive() as (port, come), Running(tmp_path / "run", port, **settings) as service:
        assert send(service.port, files) == [0] * 4
        health = service.until(lambda now: now.get("jobs_sent") == 1)
        made = datasets(come)
        assert health["ok"] and health["series"] == 1
        assert len(made) == 4 and len({one.SeriesInstanceUID for one in made}) == 1


def test_single_images_of_other_numbers_are_no_scan_in_parts(tmp_path: Path):
    store = Store(tmp_path / "q", 1e9, 0)
    for number, scan in enumerate(("a", "a", "b", "", "", "")):
        store.add(f"s{number}", f"1.{number}", b"x", scan=scan)
    assert [store.parts(f"s{number}") for number in range(6)] == [2, 2, 1, 0, 0, 0]
    store.add("s0", "1.9", b"x", scan="a")  # a second image of it
    assert [store.parts(f"s{number}") for number in range(2)] == [0, 1]
    assert store.counters()["now_scans_in_parts"] == 0
    store.close()
    # As a version without them left it.
    base = sqlite3.connect(tmp_path / "q" / "queue.sqlite")
    base.executescript("DROP INDEX series_scan; ALTER TABLE series DROP COLUMN scan;")
    base.close()
    again = Store(tmp_path / "q", 1e9, 0)
    assert again.parts("s1") == 0 and again.counters()["now_images"] == 7
    again.close()


def test_only_known_callers_and_whole_images_are_let_in(tmp_path: Path):
    files = series(tmp_path / "ct", 2)
    settings = {"callers": ["SCANNER", {"ae_title": "ELSEWHERE", "host": "192.0.2.1"}]}
    with Running(tmp_path / "run", 1, **settings) as service:
        assert send(service.port, files, caller="STRANGER") == [-1, -1]
        assert send(service.port, files, called="OTHER") == [-1, -1]
        assert send(service.port, files, caller="ELSEWHERE") == [0x0124, 0x0124]
        said = (tmp_path / "run" / "service.log").read_text()
        assert "it calls itself 'STRANGER' and this 'CTENHANCE'" in said and "this 'OTHER'" in said, said
        assert "an image from 127.0.0.1 was refused: its AE title may send from another address" in said
        nameless = pydicom.dcmread(files[0])
        del nameless.SeriesInstanceUID
        assert send(service.port, [nameless]) == [0xA900]
        evil = dataset(
            hounsfield()[0], (0, 0, 0), SeriesInstanceUID="../../../etc", StudyInstanceUID="/tmp/x"
        )
        assert send(service.port, [evil]) == [0]
        assert service.ask()["now_images"] == 1
        assert {path.name for path in (tmp_path / "run").iterdir()} == {
            "queue",
            "service.json",
            "service.log",
        }


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, JPEG2000Lossless])
def test_every_syntax_comes_with_a_file_meta_and_its_own_bytes(tmp_path: Path, syntax: str):
    path = tmp_path / "a.dcm"
    made = dataset(hounsfield()[0], (0, 0, 0))
    if syntax == JPEG2000Lossless:
        pytest.importorskip("imagecodecs", reason="no encoder (imagecodecs) is on this machine")
        from test_dicom_codecs import compress, jpeg_2000

        compress(made, JPEG2000Lossless, [jpeg_2000((hounsfield()[0] + 1024).astype(np.uint16))])
    made.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(
        path, made, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True, enforce_file_format=True
    )
    with Running(tmp_path / "run", 1, quiet_s=60) as service:
        assert send(service.port, [path]) == [0]
        (kept,) = (tmp_path / "run" / "queue" / "received").glob("*/*.dcm")
        found = pydicom.dcmread(kept)
        assert found.file_meta.TransferSyntaxUID == syntax and found.PatientID == "SECRET-7"
        np.testing.assert_array_equal(CTVolume.read(kept).array[0], hounsfield()[0])


def test_back_pressure_and_a_destination_that_is_away(tmp_path: Path):
    files = series(tmp_path / "ct", 4)
    port = free_port()
    with Running(tmp_path / "run", port, most_mb=0.003) as service:  # an image and a half
        answers = send(service.port, files)
        assert answers[0] == 0 and answers[-1] == 0xA700
        health = service.ask()
        assert not health["takes_images"] and not health["ok"] and health["refused_out_of_resources"] >= 1
    full = {"answers": 3}

    def sometimes() -> int:
        full["answers"] -= 1
        return 0xA700 if full["answers"] >= 0 else 0

    with Running(tmp_path / "more", port) as service:
        assert send(service.port, files) == [0] * 4
        service.until(lambda now: now.get("retries", 0) >= 2)  # nobody is there
        with archive(sometimes, port) as (_, come):
            service.until(lambda now: now.get("jobs_sent") == 1)
            assert len(come) == 4 and service.ask()["sent"] == 4


def test_where_decides_and_refusals_are_not_tried_again(tmp_path: Path):
    """A gap is refused once and said; a series that no pipeline is for stays without one."""
    gap = series(tmp_path / "gap", 5, SeriesInstanceUID="1.2.3")
    none = series(tmp_path / "none", 2, SeriesInstanceUID="1.2.4", ConvolutionKernel="Qr40", prefix="n")
    pipelines = [{"name": "soft", "options": ["--samples", "1"], "where": {"ConvolutionKernel": "B30f"}}]
    with Running(tmp_path / "run", 1, pipelines=pipelines) as service:
        assert send(service.port, [*gap[:2], *gap[3:], *none]) == [0] * 6
        health = service.until(lambda now: now.get("jobs_failed") == 1 and now["now_open_series"] == 0)
        assert health["series"] == health["series_without_pipeline"] == 1
        assert "a slice is missing" in health["failed"][0] and not health["ok"] and "retries" not in health


def test_a_killed_service_loses_nothing_and_makes_nothing_twice(tmp_path: Path):
    """Killed between images, while it works and while it sends; what it answered for is there each time."""
    files = series(tmp_path / "ct", 12)
    hold = threading.Event()

    def slow() -> int:
        time.sleep(0.2 if not hold.is_set() else 0)
        return 0

    with archive(slow) as (port, come), Running(tmp_path / "run", port) as service:
        for begin in (0, 4, 8):
            assert send(service.port, files[begin : begin + 4]) == [0] * 4
            service.kill()
            assert len(list((tmp_path / "run" / "queue" / "received").glob("*/*.dcm"))) == begin + 4
            service.start()
        time.sleep(3.0)  # at work
        service.kill()
        service.start()
        end = time.monotonic() + 120
        while len(come) < 3:  # sending
            assert time.monotonic() < end, service.log.read_text()
            time.sleep(0.05)
        service.kill()
        hold.set()
        service.start()
        service.until(lambda now: now.get("jobs_sent") == 1)
        assert len(come) == 12 and len({one.SeriesInstanceUID for one in datasets(come)}) == 1
        # What arrived twice, since the answer was lost, is the same to the last byte.
        assert all(len(set(versions)) == 1 for versions in come.values())
        assert sum(map(len, come.values())) <= 13


def test_one_at_a_time_has_the_queue_and_ends_in_order(tmp_path: Path):
    with Running(tmp_path / "run", 1) as service:
        command = [sys.executable, "-m", "ctenhance", "serve-dicom", str(service.settings)]
        other = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": "CTEnhance"},
            timeout=120,
        )
        assert other.returncode == 1 and "Another service uses the queue" in other.stderr
        assert service.kill(signal.SIGTERM) == 0


def test_tls_on_both_sides(tmp_path: Path):
    import ssl

    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make certificates with")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate,
         "-days", "2", "-subj", "/CN=node"], check=True, capture_output=True,
    )  # fmt: skip
    tls = {"certificate": str(certificate), "key": str(key), "authority": str(certificate)}
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for context in (server, client):
        context.load_cert_chain(certificate, key)
        context.load_verify_locations(certificate)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
    files = series(tmp_path / "ct", 2)
    with archive(ssl_context=server) as (port, come):
        to = {"ae_title": "ARCHIVE", "host": "127.0.0.1", "port": port, "tls": tls}
        pipelines = [{"name": "p", "options": ["--strength", "0", "--samples", "1"], "to": to}]
        with Running(tmp_path / "run", port, pipelines=pipelines, tls=tls) as service:
            assert send(service.port, files) == [-1, -1]  # without
            with socket.create_connection(("127.0.0.1", service.port)):  # and says nothing
                assert send(service.port, files, tls_args=(client, "node")) == [0, 0]
            service.until(lambda now: now.get("jobs_sent") == 1)
            assert len(come) == 2


def test_dcmtk_sends_and_takes(tmp_path: Path):
    storescu, storescp = shutil.which("storescu"), shutil.which("storescp")
    if storescu is None or storescp is None:
        pytest.skip("DCMTK (storescu, storescp) is not installed")
    files = series(tmp_path / "ct")
    port = free_port()
    (tmp_path / "come").mkdir()
    taker = subprocess.Popen([storescp, "-aet", "ARCHIVE", "-od", str(tmp_path / "come"), "+xa", str(port)])
    try:
        with Running(tmp_path / "run", port) as service:
            for proposal in ([], ["-xi"]):
                done = subprocess.run(
                    [storescu, *proposal, "-aet", "SCANNER", "-aec", "CTENHANCE", "127.0.0.1",
                     str(service.port), *map(str, files)], capture_output=True, timeout=120,
                )  # fmt: skip
                assert done.returncode == 0, done.stderr
            service.until(lambda now: now.get("jobs_sent") == 1)
    finally:
        taker.terminate()
        taker.wait()
    volume = CTVolume.read(tmp_path / "come")
    np.testing.assert_allclose(volume.array, CTVolume.read(tmp_path / "ct").array, atol=1)


def test_the_store_alone(tmp_path: Path):
    """Late images, cleared series, superseded jobs, and what a kill left half done."""
    store = Store(tmp_path / "q", 10 * _MB, 0)
    key = key_of("study", "series")
    assert store.add(key, "1", b"a" * 10) and store.add(key, "2", b"b" * 10, expected=3)
    assert not store.add(key, "1", b"a" * 10) and store.complete(60) == []
    assert store.add(key, "3", b"c") and store.complete(60) == [key]
    assert store.close_series(key, ["p"]) and store.complete(0) == []
    job = store.next_job("waiting")
    assert isinstance(job, Job) and store.input_of(job) is not None
    store.add(key, "4", b"d")  # late: a job for more images takes the place of this one
    assert store.input_of(job) is None
    store.put_job(job, "superseded")
    assert store.close_series(key, ["p"])
    job = store.next_job("waiting")
    assert job is not None and len(list(store.input_of(job).iterdir())) == 4  # type: ignore[union-attr]
    store.put_job(job, "sent")
    store.clear(0)
    assert store.files_of(key) == [] and store.counters()["now_bytes"] == 0
    store.add(key, "5", b"e")
    assert not store.close_series(key, ["p"])  # of four of its five images nothing is left
    assert store.next_job("waiting") is None
    for uid, content in (("1", b"a"), ("2", b"b"), ("3", b"c"), ("4", b"d")):
        assert store.add(key, uid, content)
    assert store.close_series(key, ["p"]) and store.next_job("waiting") is not None
    folder = tmp_path / "q" / "received" / key
    (folder / "half.1.part").write_bytes(b"x")
    (folder / f"{key_of('6')}.dcm").write_bytes(b"whole, but killed before its line was written")
    with pytest.raises(Exception, match="Another service"):
        Store(tmp_path / "q", 1, 1)
    store.close()
    store = Store(tmp_path / "q", 10 * _MB, 0)
    assert store.counters()["now_images"] == 6 and not list(folder.glob("*.part"))
    assert store.room() and not Store(tmp_path / "small", 0, 0).room()
    store.close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"callers": []}, "callers must be a list with one entry"),
        ({"queue": None}, "'queue' is missing"),
        ({"prot": 1}, "there is no setting 'prot'"),
        ({"port": "x"}, "'port' must be a number"),
        ({"port": 70000}, "port must be 0 to 65535"),
        ({"ae_title": "TOO_LONG_A_TITLE_"}, "an AE title has 1 to 16"),
        ({"quiet_s": 0}, "quiet_s must be above 0"),
        ({"expect": "Nothing"}, "expect is no DICOM keyword"),
        ({"series_by": "PatientID"}, "series_by is SeriesInstanceUID or SeriesNumber"),
        ({"verb": "compare"}, "has the verb 'compare'"),
        ({"options": ["--report=x"]}, "has the option --report=x"),
        ({"where": {"Nothing": 1}}, "is no attribute"),
        ({"where": {"SliceThickness": "5..0.5"}}, "its lower end comes first"),
        ({"to": {"ae_title": "A", "host": "h"}}, "'port' is missing"),
        ({"tls": {"certificate": "no", "key": "no", "authority": "no"}}, "is no file"),
    ],
)
def test_settings_that_are_wrong_are_named(tmp_path: Path, change: dict[str, Any], words: str):
    pipeline = {"name": "p", "to": {"ae_title": "ARCHIVE", "host": "h", "port": 104}}
    settings: dict[str, Any] = {"queue": "q", "callers": ["A"], "pipelines": [pipeline]}
    inner = {name: value for name, value in change.items() if name in ("verb", "options", "where", "to")}
    pipeline.update(inner)
    settings.update({name: value for name, value in change.items() if name not in inner})
    path = tmp_path / "s.json"
    path.write_text(json.dumps(settings))
    with pytest.raises(InputError, match=words):
        read_settings(path)
    done = CliRunner().invoke(app, ["serve-dicom", str(path), "--check"])
    assert done.exit_code == 2 and "Error: In '" in done.output


@pytest.mark.parametrize(
    ("verb", "options", "words"),
    [
        ("enhance", ["--strenght", "1"], "No such option: --strenght"),
        ("degrade", ["--dose", "8"], "The dose 8 is no fraction"),
        ("degrade", ["--dose", "0.5"], ""),
    ],
)
def test_options_that_the_command_refuses_are_told_at_once(
    tmp_path: Path, verb: str, options: list[str], words: str
):
    pipeline = {
        "name": "p",
        "verb": verb,
        "options": options,
        "to": {"ae_title": "A", "host": "h", "port": 1},
    }
    path = tmp_path / "s.json"
    path.write_text(json.dumps({"queue": "q", "callers": ["A"], "pipelines": [pipeline]}))
    done = CliRunner().invoke(app, ["serve-dicom", str(path), "--check"])
    assert done.exit_code == (2 if words else 0), done.output
    assert (f"The pipeline 'p' cannot run: {verb}" in done.output and words in done.output) or not words


def test_settings_that_are_not_there_are_told(tmp_path: Path):
    with pytest.raises(InputError, match=r"There is no settings file at '.*none\.json'; check the path\."):
        read_settings(tmp_path / "none.json")


def test_the_settings_of_the_documentation_are_right(repository: Path, tmp_path: Path):
    text = (repository / "docs" / "dicom-service.md").read_text(encoding="utf-8")
    path = tmp_path / "service.json"
    path.write_text(text.split("```json\n")[1].split("```")[0])
    found = read_settings(path)
    assert found.host == "127.0.0.1" and found.pipelines[0].to.ae_title == "PACS"


def test_the_same_text_gives_the_same_uids(tmp_path: Path):
    CTVolume(hounsfield(2)).write(tmp_path / "a.nrrd")
    uids = []
    for name, text in (("a", "x"), ("b", "x"), ("c", "y")):
        done = CliRunner().invoke(
            app, ["dicom", str(tmp_path / "a.nrrd"), str(tmp_path / name), "--uids-of", text]
        )
        assert done.exit_code == 0, done.output
        uids.append([pydicom.dcmread(path).SOPInstanceUID for path in sorted((tmp_path / name).iterdir())])
    assert uids[0] == uids[1] and not set(uids[0]) & set(uids[2]) and len(set(uids[0])) == 2
