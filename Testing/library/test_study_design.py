"""Making a study: what a design may say, what readers get, and that it tells nothing of the arms."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 (its customary name)
from hypothesis import given
from hypothesis import strategies as st
from study_arms import write_arms

from ctenhance.core.volume import CTVolume
from ctenhance.runtime.errors import Cancelled, CTEnhanceError, InputError
from ctenhance.runtime.progress import CancelToken
from ctenhance.study import Design, Study, blinding, create, design_from_folders
from ctenhance.study.images import blinded
from ctenhance.study.key import Key
from ctenhance.study.questions import PRESETS, Question, preset


@pytest.fixture
def made(tmp_path: Path) -> Study:
    write_arms(tmp_path)
    design, _matched = design_from_folders(
        tmp_path / "before", tmp_path / "after", ("ann", "bob"), "image quality", repeats=2, seed=5
    )
    return create(design, tmp_path / "study")


def values(**changes: Any) -> dict[str, Any]:
    """A whole design as JSON, with changes; None leaves a field out."""
    base: dict[str, Any] = {
        "format": "ctenhance-study-design",
        "version": 1,
        "title": "Trial",
        "preset": "preference",
        "arms": ["before", "after"],
        "cases": [{"name": "p1", "images": {"before": "a.nii", "after": "b.nii"}}],
        "readers": ["ann"],
    }
    return {key: value for key, value in {**base, **changes}.items() if value is not None}


def read_design(folder: Path, **changes: Any) -> Design:
    path = folder / "design.json"
    path.write_text(json.dumps(values(**changes)))
    return Design.read(path)


def test_design_is_read_with_paths_beside_it(tmp_path: Path) -> None:
    design = read_design(tmp_path, sessions=1, repeats=1, seed=3, washout_days=2.5)
    assert design.cases[0].images["after"] == tmp_path / "b.nii"
    assert [question.id for question in design.questions] == ["preference", "comment"]
    assert (design.repeats, design.seed, design.conduct.washout_days) == (1, 3, 2.5)
    assert [window.name for window in design.conduct.windows] == ["Soft tissue", "Lung", "Bone"]


CASE = {"name": "p1", "images": {"before": "a", "after": "b"}}
LIKERT = {"id": "q", "kind": "likert", "text": "?", "anchors": ["bad", "good"]}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"format": "other"}, "is no ctenhance-study-design file"),
        ({"version": 2}, "reads version 1"),
        ({"title": None}, "lacks 'title'"),
        ({"title": " "}, "needs a 'title'"),
        ({"title": 7}, "must be a text"),
        ({"arms": []}, "none of the arms"),
        ({"arms": ["before", "Before"]}, "twice"),
        ({"arms": ["before"]}, "which is none of the arms"),
        ({"cases": []}, "at least one case"),
        ({"cases": [CASE, CASE]}, "names 'p1' twice"),
        ({"cases": [{"name": "p1", "images": {"before": "a"}}]}, "no image for the arm 'after'"),
        ({"cases": [{**CASE, "name": "a/b"}]}, "cannot be a name"),
        ({"cases": [{**CASE, "lesion": []}]}, "'lesion' that is not known"),
        ({"cases": [{**CASE, "lesions": [{"point": [1, 2], "radius_mm": 3}]}]}, "must be 3 finite numbers"),
        ({"cases": [{**CASE, "lesions": [{"point": [1, 2, 3], "radius_mm": 0}]}]}, "above 0"),
        (
            {"cases": [{**CASE, "diseased": False, "lesions": [{"point": [1, 2, 3], "radius_mm": 3}]}]},
            "says that it is not diseased",
        ),
        ({"readers": ["../ann"]}, "cannot be a name"),
        ({"readers": "ann"}, "must be a list"),
        ({"preset": "beauty"}, "There is no preset 'beauty'"),
        ({"preset": None}, "either a 'preset' or"),
        ({"preset": None, "questions": []}, "at least one question"),
        ({"preset": None, "questions": [LIKERT, LIKERT]}, "names 'q' twice"),
        ({"preset": None, "questions": [{**LIKERT, "anchors": ["one"]}]}, "2 to 11 'anchors'"),
        ({"preset": None, "questions": [{**LIKERT, "kind": "essay"}]}, "must be one of likert"),
        (
            {"preset": None, "questions": [{"id": "q", "kind": "number", "text": "?", "low": 2, "high": 1}]},
            "below",
        ),
        ({"preset": "preference", "present": "single"}, "compares two images"),
        ({"sessions": 0}, "between 1 and 100"),
        ({"sessions": 2}, "2 sessions for 1 reading;"),
        ({"sessions": 1.5}, "a whole number"),
        ({"washout_days": float("nan")}, "NaN is no number"),
        ({"repeats": 2}, "only 1 reading to repeat"),
        ({"preset": "lesion", "sessions": 3}, "There is no preset"),
        ({"preset": "lesion detection", "sessions": 3}, "1 session or one for each of the 2 arms"),
        ({"truth": {"preference": "before"}}, "no question of the kind 'choice'"),
        ({"preset": "realism", "truth": {"real": "during"}}, "none of the arms"),
        ({"windows": [{"name": "w", "level": 0, "width": 0}]}, "above 0 HU"),
        ({"colour": "red"}, "'colour' that is not known"),
    ],
)
def test_design_refuses(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        read_design(tmp_path, **changes)
    assert str(caught.value).count("\n") == 0


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"a": 1}', "\x00", "[" * 5000])
def test_design_refuses_broken_files(tmp_path: Path, text: str) -> None:
    path = tmp_path / "design.json"
    path.write_text(text)
    with pytest.raises(InputError):
        Design.read(path)


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5)
)
def test_question_takes_or_refuses_any_answer(value: Any) -> None:
    for ready in PRESETS.values():
        for question in ready.questions:
            try:
                checked = question.checked(value)
            except InputError:
                continue
            assert json.loads(json.dumps(checked)) == question.checked(checked)


def test_questions_check_their_answers() -> None:
    likert = preset("image quality").questions[0]
    assert likert.checked(5) == 5
    for wrong in (0, 6, "5", True, 2.5, None):
        with pytest.raises(InputError):
            likert.checked(wrong)
    preference = preset("preference").questions[0]
    assert [value for value, _words in preference.choices] == [-2, -1, 0, 1, 2]
    marks = preset("lesion detection").questions[0]
    assert marks.checked([{"point": (1, 2, 3), "confidence": 50}]) == [
        {"point": [1.0, 2.0, 3.0], "confidence": 50.0}
    ]
    for mark in (
        {"point": [1, 2, 3]},
        {"point": [1, 2], "confidence": 1},
        {"point": [1, 2, 3], "confidence": 101},
    ):
        with pytest.raises(InputError):
            marks.checked([mark])
    with pytest.raises(InputError, match="can only be asked of 'pair'"):
        Question.parse({"id": "q", "kind": "choice", "text": "?", "scope": "each"}, "Question 1")


@given(
    st.integers(1, 12),
    st.integers(1, 4),
    st.booleans(),
    st.integers(1, 3),
    st.integers(0, 2**32),
    st.integers(0, 3),
)
def test_readings_are_whole_balanced_and_apart(
    cases: int, arms: int, pairs: bool, sessions: int, seed: int, repeats: int
) -> None:
    if pairs and arms == 1:
        return
    sittings = blinding.readings(cases, arms, pairs, sessions, random.Random(seed))
    shown = [showing for sitting in sittings for showing in sitting]
    variants = list(itertools.combinations(range(arms), 2 if pairs else 1))
    expected = Counter(
        frozenset((case, arm) for arm in variant) for case in range(cases) for variant in variants
    )
    assert Counter(frozenset(showing) for showing in shown) == expected
    # Each round of `cases` showings holds every case once.
    for start in range(0, len(shown), cases):
        assert sorted(showing[0][0] for showing in shown[start : start + cases]) == list(range(cases))
    for sitting in sittings:
        for variant in variants if pairs else []:
            left = Counter(tuple(arm for _case, arm in showing) for showing in sitting)
            assert abs(left[variant] - left[variant[::-1]]) <= 1
    again = blinding.repeated(shown, min(repeats, len(shown)), random.Random(seed))
    assert len({frozenset(showing) for showing in again}) == min(repeats, len(shown))


def test_readers_get_different_orders_and_the_same_key_the_same(tmp_path: Path) -> None:
    write_arms(tmp_path, cases=6)
    design, _ = design_from_folders(tmp_path / "before", tmp_path / "after", ("ann", "bob"), seed=1)
    first = create(design, tmp_path / "one", salt="s")
    again = create(design, tmp_path / "two", salt="s")
    other = create(design, tmp_path / "three")
    assert first.schedule == again.schedule
    assert first.schedule != other.schedule, "the seed alone must not give the schedule"
    assert first.trials("ann") != first.trials("bob")
    key = Key.read(tmp_path / "one-key.json", first.key_sha256)
    arm_of = {image: arm for image, (_case, arm) in key.where().items()}
    for reader in first.readers:
        assert [arm_of[trial.images[0]] for trial in first.trials(reader)].count("before") == 3


def test_study_folder_leaks_nothing(made: Study, tmp_path: Path) -> None:
    """Each way in which the files could tell the arms apart."""
    key = Key.read(tmp_path / "study-key.json", made.key_sha256)
    files = sorted(path for path in made.folder.rglob("*") if path.is_file())
    images = [path for path in files if path.suffix == ".mha"]
    assert len(images) == 8
    # Names of arms, cases, sources and truth, in file names and in any bytes.
    for path in files:
        content = path.read_bytes()
        for word in (b"before", b"after", b"Miller", b"miller", key.salt.encode(), str(tmp_path).encode()):
            assert word not in content and word.decode() not in str(path.relative_to(made.folder))
    # Sizes, time stamps, headers apart from the case's grid, order of names.
    assert len({path.stat().st_size for path in images}) == 1
    assert len({path.stat().st_mtime_ns for path in images}) == 1
    for case in key.cases:
        read = {arm: sitk.ReadImage(str(made.image_path(image))) for arm, image in case.images.items()}
        heads = {
            arm: made.image_path(image).read_bytes().split(b"LOCAL")[0] for arm, image in case.images.items()
        }
        assert heads["before"] == heads["after"]
        for image in read.values():
            assert image.GetPixelID() == sitk.sitkInt16
        assert read["before"].GetOrigin() == read["after"].GetOrigin()
        # The padding that only one arm had is the same in both.
        arrays = {arm: sitk.GetArrayFromImage(image) for arm, image in read.items()}
        assert all((array[:, :3] == -1024).all() for array in arrays.values())
        assert all(array.min() == -1024 and array[:, 20:].std() > 1 for array in arrays.values())
    text = (made.folder / "study.json").read_text(encoding="utf-8")
    assert list(made.images) == sorted(made.images)
    assert '"seed"' not in text and '"salt"' not in text


def test_blinded_copies_keep_the_picture() -> None:
    rng = np.random.default_rng(1)
    body = rng.normal(40, 20, (2, 30, 30)).astype(np.float32)
    bone = body + 2000
    bone[0, 0, 0] = 9000
    arrays = blinded({"a": CTVolume(body), "b": CTVolume(bone)})
    assert np.array_equal(arrays["a"], np.rint(body))
    assert arrays["b"].max() == 3071 and arrays["b"].dtype == np.int16


def test_air_inside_the_field_is_no_padding() -> None:
    rng = np.random.default_rng(2)
    air = np.round(rng.normal(-1000, 25, (1, 64, 64))).astype(np.float32)
    other = rng.normal(-1000, 5, (1, 64, 64)).astype(np.float32)
    arrays = blinded({"a": CTVolume(air), "b": CTVolume(other)})
    assert np.array_equal(arrays["b"], np.rint(other)), "noise of one arm must not be stamped into the other"


def test_key_is_kept_apart_and_cannot_be_exchanged(made: Study, tmp_path: Path) -> None:
    path = tmp_path / "study-key.json"
    assert path.stat().st_mode & 0o077 == 0
    text = path.read_text(encoding="utf-8")
    path.chmod(0o600)
    path.write_text(text.replace("Miller_0", "Miller_9"))
    with pytest.raises(InputError, match="was changed"):
        Key.read(path, made.key_sha256)
    path.write_text(text)
    assert Key.read(path, made.key_sha256).truth == {}
    with pytest.raises(InputError, match="There is no study key"):
        Key.read(tmp_path / "none.json", made.key_sha256)


def test_creation_refuses_and_leaves_nothing(tmp_path: Path) -> None:
    write_arms(tmp_path, cases=2)
    design, _ = design_from_folders(tmp_path / "before", tmp_path / "after", ("ann",))
    with pytest.raises(InputError, match="must not lie in the study folder"):
        create(design, tmp_path / "study", tmp_path / "study" / "key.json")
    with pytest.raises(InputError, match="does not exist"):
        create(design, tmp_path / "no" / "study")
    token = CancelToken()
    with pytest.raises(Cancelled):
        create(design, tmp_path / "study", progress=lambda *_: token.cancel(), cancel=token)
    CTVolume(np.zeros((3, 40, 39), np.float32) + np.arange(-20, 19), (0.7, 0.7, 1.5)).write(
        tmp_path / "after" / "Miller 1.nii.gz"
    )
    with pytest.raises(InputError, match=r"Case 'Miller_1', arm 'after': .*39×40×3 voxels"):
        create(design, tmp_path / "study")
    (tmp_path / "after" / "Miller 1.nii.gz").write_bytes(b"no image")
    with pytest.raises(InputError, match="Case 'Miller_1', arm 'after'"):
        create(design, tmp_path / "study")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["after", "before"]
    write_arms(tmp_path / "good", cases=1)
    good, _ = design_from_folders(tmp_path / "good" / "before", tmp_path / "good" / "after", ("ann",))
    create(good, tmp_path / "study")
    with pytest.raises(InputError, match="something is there already"):
        create(good, tmp_path / "study", tmp_path / "other.json")
    with pytest.raises(InputError, match="exists already"):
        create(good, tmp_path / "other", tmp_path / "study-key.json")


def test_full_disk_leaves_no_half_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_arms(tmp_path, cases=1)
    design, _ = design_from_folders(tmp_path / "before", tmp_path / "after", ("ann",))

    def full(*_given: Any, **_named: Any) -> None:
        raise RuntimeError("ITK: no space left on device")

    monkeypatch.setattr(sitk, "WriteImage", full)
    with pytest.raises(CTEnhanceError, match="the disk is full; free some space"):
        create(design, tmp_path / "study")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["after", "before"]


def test_one_at_a_time_shows_each_case_once_a_session(tmp_path: Path) -> None:
    write_arms(tmp_path, cases=5)
    design, _ = design_from_folders(
        tmp_path / "before", tmp_path / "after", ("ann",), "lesion detection", sessions=2, washout_days=14
    )
    study = create(design, tmp_path / "study")
    where = Key.read(tmp_path / "study-key.json", study.key_sha256).where()
    for session in (1, 2):
        shown = [where[trial.images[0]] for trial in study.trials("ann") if trial.session == session]
        assert len({case.name for case, _arm in shown}) == len(shown) == 5
        assert {Counter(arm for _case, arm in shown)["before"]} <= {2, 3}


def test_edited_study_is_refused(made: Study) -> None:
    path = made.folder / "study.json"
    text = path.read_text(encoding="utf-8")
    edited = json.loads(text)
    edited["schedule"]["ann"][0].reverse()
    for broken in (json.dumps(edited), "{}", text[: len(text) // 2], text.replace("Image noise", "Noise")):
        path.write_text(broken)
        with pytest.raises(InputError):
            Study.read(made.folder)
    path.write_text(text)
    assert Study.read(path).schedule == made.schedule
    with pytest.raises(InputError, match="There is no study"):
        Study.read(made.folder / "nowhere")


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity"])
def test_a_study_with_a_number_that_is_none_is_refused(made: Study, number: str) -> None:
    path = made.folder / "study.json"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("{", '{"odd": ' + number + ",", 1), encoding="utf-8")
    with pytest.raises(InputError, match=r"^The study .* cannot be read as JSON \(.* is no number\)\.$"):
        Study.read(made.folder)


def test_missing_and_damaged_images_are_told(made: Study) -> None:
    name = next(iter(made.images))
    path = made.image_path(name)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="is damaged"):
        made.image_path(name)
    path.unlink()
    with pytest.raises(InputError, match="is missing"):
        made.image_path(name)
