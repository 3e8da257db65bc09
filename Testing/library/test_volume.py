"""CTVolume and its NIfTI, NRRD and MetaImage files."""

from __future__ import annotations

import gzip
import re
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 (its customary name)
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from synthetic_dicom import hounsfield

from ctenhance.core.volume import WRITABLE_SUFFIXES, CTVolume
from ctenhance.runtime.errors import CTEnhanceError, InputError

TURNED = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])


def volume(array: np.ndarray | None = None, **grid: object) -> CTVolume:
    return CTVolume(hounsfield(3) if array is None else array, **{"spacing": (0.7, 0.8, 2.5), **grid})


# --- the class -------------------------------------------------------------------------------------------


def test_array_becomes_float32_without_a_needless_copy():
    floats = hounsfield(2).astype(np.float32)
    assert CTVolume(floats).array is floats
    assert CTVolume(hounsfield(2)).array.dtype == np.float32
    turned = CTVolume(floats.transpose(0, 2, 1))
    assert turned.array.flags.c_contiguous and turned.array.shape == (2, 16, 12)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 3)), "three axes (z, y, x), but this one has 2"),
        (np.zeros((1, 2, 3, 4)), "but this one has 4"),
        (np.zeros((0, 3, 4)), "The volume is empty"),
        (np.full((1, 2, 3), 1j), "real numbers"),
        (np.array([[["a"]]]), "real numbers"),
        (np.array([[[0, 1], [np.nan, np.nan]]]), "2 of the values are NaN or infinite, the first in slice 0"),
        (np.array([[[0]], [[-np.inf]]]), "1 of the values is NaN or infinite, the first in slice 1, row 0"),
        (np.array([[[1e300]]]), "1 of the values is NaN or infinite"),
    ],
)
def test_refused_arrays(array: np.ndarray, words: str):
    with pytest.raises(InputError, match=re.escape(words)):
        CTVolume(array)


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ({"spacing": (1, 0, 1)}, "must be positive"),
        ({"spacing": (1, 1)}, "spacing must be three finite numbers"),
        ({"origin": (0, 0, np.nan)}, "origin must be three finite numbers"),
        ({"direction": np.eye(2)}, "3 x 3"),
        ({"direction": np.diag([1, 1, 2])}, "not perpendicular unit vectors"),
        ({"direction": [[1, 0.1, 0], [0, 1, 0], [0, 0, 1]]}, "not perpendicular unit vectors"),
        ({"direction": np.full((3, 3), np.nan)}, "not perpendicular unit vectors"),
    ],
)
def test_refused_grids(grid: dict[str, object], words: str):
    with pytest.raises(InputError, match=re.escape(words)):
        volume(**grid)


def test_with_array_keeps_the_grid_and_checks_the_shape():
    before = volume(origin=(1, 2, 3), direction=TURNED, meta={"kernel": "B30f", "kvp": 120.0})
    after = before.with_array(before.array + 1, kernel="B70f")
    assert (after.spacing, after.origin) == (before.spacing, before.origin)
    np.testing.assert_array_equal(after.direction, before.direction)
    assert after.meta == {"kernel": "B70f", "kvp": 120.0} and before.meta["kernel"] == "B30f"
    with pytest.raises(InputError, match=re.escape("shape (2, 12, 16), but the volume has (3, 12, 16)")):
        before.with_array(before.array[:2])


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2), (2, 1, 0), (1, 2, 0), (0, 2, 1)])
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1)])
def test_any_order_of_axes_has_its_axial_slices(order: tuple[int, int, int], flips: tuple[int, ...]):
    # Oblique by 20 degrees about z: the nearest axes are meant, not exact ones.
    c, s = np.cos(np.radians(20)), np.sin(np.radians(20))
    direction = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) * flips
    array = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    upright = CTVolume(array, (0.7, 0.8, 2.0), (1, 2, 3), direction, {"kvp": 120, "slice_thickness_mm": 3.0})
    axes = [2 - axis for axis in reversed(order)]
    stored = CTVolume(
        array.transpose(order),
        tuple(np.array(upright.spacing)[axes]),
        upright.origin,
        direction[:, axes],
        upright.meta,
    )
    axial = stored.axial()
    assert abs(axial.direction[2, 2]) == pytest.approx(1)
    np.testing.assert_array_equal(stored.from_axial(axial.array), stored.array)
    seen = axial.array[axial.upright()]
    np.testing.assert_array_equal(seen, array[tuple(slice(None, None, f) for f in flips[::-1])])
    np.testing.assert_array_equal(seen[axial.upright()], axial.array)
    if order == (0, 1, 2):
        assert axial is stored
        return
    np.testing.assert_array_equal(axial.array, upright.array)
    np.testing.assert_array_equal(axial.direction, upright.direction)
    assert (axial.spacing, axial.origin) == (upright.spacing, upright.origin)
    assert axial.meta == {"kvp": 120}  # the thickness was along another axis


def test_identity_is_of_the_values_and_tells_nothing_else():
    before = volume(meta={"series_instance_uid": "1.2.3", "source_files": ["/home/nobody/ct"]})
    assert before.identity() == volume().identity()
    assert before.identity()["shape"] == [3, 12, 16] and before.identity()["spacing"] == [0.7, 0.8, 2.5]
    changed = before.array.copy()
    changed[2, 3, 4] += 1
    assert before.with_array(changed).identity()["sha256"] != before.identity()["sha256"]
    zeros = np.zeros((1, 2, 2), np.float32)
    assert CTVolume(zeros).identity() == CTVolume(-zeros).identity()
    assert repr(before) == "CTVolume(16 x 12 x 3 voxels of 0.7 x 0.8 x 2.5 mm)"


def test_simpleitk_and_back():
    before = volume(origin=(1, 2, 3), direction=TURNED)
    image = before.to_sitk()
    assert image.GetPixelID() == sitk.sitkFloat32
    # The same voxel lies at the same place in both.
    place = before.origin + TURNED @ (np.array([3, 2, 1]) * before.spacing)
    np.testing.assert_allclose(image.TransformIndexToPhysicalPoint((3, 2, 1)), place)
    after = CTVolume.from_sitk(image, {"kvp": 120.0})
    assert after.identity() == before.identity() and after.meta == {"kvp": 120.0}
    np.testing.assert_array_equal(after.direction, before.direction)


# --- files -----------------------------------------------------------------------------------------------

numbers = st.floats(-2000, 2000, allow_nan=False, allow_subnormal=False)
whole_hu = st.integers(-32768, 32767).map(float)
any_float32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def volumes(draw: st.DrawFn) -> CTVolume:
    """Any volume: int16 or float32 values, one slice or column, rotated, mirrored."""
    shape = draw(hnp.array_shapes(min_dims=3, max_dims=3, max_side=4))
    values = draw(hnp.arrays(np.float32, shape, elements=draw(st.sampled_from([whole_hu, any_float32]))))
    turn = np.linalg.qr(
        draw(hnp.arrays(np.float64, (3, 3), elements=st.floats(-1, 1, allow_subnormal=False))) + 3 * np.eye(3)
    )[0]
    return CTVolume(
        values,
        spacing=tuple(draw(st.tuples(*[st.floats(0.05, 20)] * 3))),
        origin=tuple(draw(st.tuples(numbers, numbers, numbers))),
        direction=turn @ np.diag(draw(st.tuples(*[st.sampled_from([1, -1])] * 3))),
    )


@pytest.mark.parametrize("suffix", WRITABLE_SUFFIXES)
@given(before=volumes())
@settings(max_examples=30)
def test_round_trip_keeps_values_and_grid(suffix: str, before: CTVolume):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"ct.v1{suffix}")
        before.write(path)
        left = sorted(one.name for one in Path(folder).iterdir())
        assert left == (["ct.v1.mhd", "ct.v1.raw"] if suffix == ".mhd" else [path.name])
        after = CTVolume.read(path, check_hu=False)
    np.testing.assert_array_equal(after.array, before.array)
    assert after.identity()["sha256"] == before.identity()["sha256"]
    nifti, nrrd = suffix.startswith(".nii"), suffix == ".nrrd"
    relative = 1e-7 if nifti else 1e-15 if nrrd else 0
    least = 1e-35 if nifti else 1e-300  # what float32, or MetaImage's text, holds at all
    np.testing.assert_allclose(after.spacing, before.spacing, rtol=relative, atol=0)
    np.testing.assert_allclose(after.origin, before.origin, rtol=relative, atol=least)
    np.testing.assert_allclose(
        after.direction, before.direction, rtol=0, atol=1e-6 if nifti else max(relative, least)
    )


@pytest.mark.parametrize(
    ("values", "pixel_type"),
    [
        ([-1024.0, 0.0, 3071.0], sitk.sitkInt16),
        ([-32768.0, -0.0, 32767.0], sitk.sitkInt16),
        ([-1024.0, 0.5, 3071.0], sitk.sitkFloat32),
        ([-1024.0, 0.0, 32768.0], sitk.sitkFloat32),
    ],
)
@pytest.mark.parametrize("suffix", WRITABLE_SUFFIXES)
def test_whole_numbers_are_written_as_int16(
    tmp_path: Path, suffix: str, values: list[float], pixel_type: int
):
    path = tmp_path / f"ct{suffix}"
    CTVolume(np.array([[values]])).write(path)
    assert sitk.ReadImage(str(path)).GetPixelID() == pixel_type
    np.testing.assert_array_equal(CTVolume.read(path, check_hu=False).array, [[values]])


def test_real_volumes_keep_every_value(shared_data: Path, tmp_path: Path):
    files = sorted((shared_data / "ct").glob("*.nii.gz"))
    if not files:
        pytest.skip("the real CT volumes are not on this machine")
    for path in files[::7]:
        before = CTVolume.read(path)
        before.write(tmp_path / "copy.mha")
        after = CTVolume.read(tmp_path / "copy.mha")
        assert after.identity() == before.identity()
        np.testing.assert_array_equal(after.direction, before.direction)


def test_oblique_nifti_agrees_with_simpleitk(tmp_path: Path):
    before = volume(origin=(-12.3, 45.6, -789.1), direction=TURNED)
    before.write(tmp_path / "ct.nii.gz")
    image = sitk.ReadImage(str(tmp_path / "ct.nii.gz"))
    corner = before.origin + TURNED @ ((np.array(before.array.shape[::-1]) - 1) * before.spacing)
    np.testing.assert_allclose(image.TransformIndexToPhysicalPoint((15, 11, 2)), corner, atol=1e-4)
    header = gzip.decompress((tmp_path / "ct.nii.gz").read_bytes())[:348]
    qform, sform = struct.unpack_from("<2h", header, 252)
    assert qform > 0 and sform > 0  # programs that read only one of the two agree


@pytest.mark.parametrize("suffix", WRITABLE_SUFFIXES)
def test_suffixes_in_upper_case(tmp_path: Path, suffix: str):
    path = tmp_path / f"CT{suffix.upper()}"
    volume().write(path)
    assert {one.name for one in tmp_path.iterdir()} <= {path.name, "CT.raw"}
    np.testing.assert_array_equal(CTVolume.read(path).array, volume().array)


def test_files_of_other_programs(tmp_path: Path):
    values = hounsfield(3)
    image = sitk.GetImageFromArray(values)
    sitk.WriteImage(sitk.JoinSeries([image]), str(tmp_path / "one_time_point.nrrd"))
    sitk.WriteImage(image[:, :, 1], str(tmp_path / "slice.mha"))
    sitk.WriteImage(sitk.Cast(image, sitk.sitkFloat64), str(tmp_path / "double.nii"))
    sitk.WriteImage(image, str(tmp_path / "detached.nhdr"), useCompression=True)
    sitk.WriteImage(image, str(tmp_path / "beside.mhd"), useCompression=True)
    np.testing.assert_array_equal(CTVolume.read(tmp_path / "one_time_point.nrrd").array, values)
    np.testing.assert_array_equal(CTVolume.read(tmp_path / "slice.mha").array, values[1:2])
    np.testing.assert_array_equal(CTVolume.read([tmp_path / "double.nii"]).array, values)
    np.testing.assert_array_equal(CTVolume.read(str(tmp_path / "detached.nhdr")).array, values)
    np.testing.assert_array_equal(CTVolume.read(tmp_path / "beside.mhd").array, values)


def test_nifti_scaling_is_applied(tmp_path: Path):
    path = tmp_path / "ct.nii"
    stored = hounsfield(3).astype(np.int32) + 1024
    sitk.WriteImage(sitk.GetImageFromArray(stored.astype(np.uint16)), str(path))
    content = bytearray(path.read_bytes())
    content[112:120] = struct.pack("<2f", 1.0, -1024.0)  # scl_slope, scl_inter
    path.write_bytes(content)
    np.testing.assert_array_equal(CTVolume.read(path).array, stored - 1024)


# --- what is refused -------------------------------------------------------------------------------------


def save(image: sitk.Image, path: Path) -> Path:
    sitk.WriteImage(image, str(path))
    return path


def image(values: np.ndarray | None = None) -> sitk.Image:
    return sitk.GetImageFromArray(hounsfield(3) if values is None else values)


def with_hole(folder: Path, hole: float, suffix: str) -> Path:
    values = hounsfield(3).astype(np.float32)
    values[1, 2, 3] = hole
    return save(image(values), folder / f"ct{suffix}")


def sheared(folder: Path) -> Path:
    path = save(image(), folder / "ct.nii")
    content = bytearray(path.read_bytes())
    content[252:254] = struct.pack("<h", 0)  # no qform
    content[284:288] = struct.pack("<f", 0.5)  # and a sform whose axes are not perpendicular
    path.write_bytes(content)
    return path


def cut(path: Path, share: float = 0.7) -> Path:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def flipped(folder: Path, suffix: str, values_suffix: str = "") -> Path:
    """Write a compressed file and turn one bit of its values over."""
    path = folder / f"ct{suffix}"
    sitk.WriteImage(image(), str(path), useCompression=True)
    values = path.with_suffix(values_suffix) if values_suffix else path
    content = bytearray(values.read_bytes())
    content[-40] ^= 0x10
    values.write_bytes(content)
    return path


def without_raw(folder: Path) -> Path:
    path = save(image(), folder / "ct.mhd")
    path.with_suffix(".raw").unlink()
    return path


def text(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


def vectors(folder: Path, suffix: str) -> Path:
    colour = sitk.GetImageFromArray(np.zeros((2, 3, 4, 3), np.uint8), isVector=True)
    return save(colour, folder / f"ct{suffix}")


HOLE = "1 of the values is NaN or infinite, the first in slice 1, row 2, column 3"
EMPTY_NRRD = "NRRD0004\ntype: short\ndimension: 3\nsizes: 0 4 4\nencoding: raw\nendian: little\n\n"

REFUSALS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "slices in time": (
        lambda f: save(sitk.JoinSeries([image()[:, :, :1]] * 5), f / "ct.nii.gz"),
        "its 5 slices lie one behind the other in time",
    ),
    "4-D": (lambda f: save(sitk.JoinSeries([image()] * 2), f / "ct.nii.gz"), "it is 4-D and holds 2 volumes"),
    "RGB NIfTI": (lambda f: vectors(f, ".nii"), "3 values a voxel (colour or vectors)"),
    "RGB NRRD": (lambda f: vectors(f, ".nrrd"), "3 values a voxel"),
    "RGB MetaImage": (lambda f: vectors(f, ".mha"), "3 values a voxel"),
    "complex": (lambda f: save(image(np.zeros((2, 3, 4), complex)), f / "ct.nii"), "complex numbers"),
    "NaN in NIfTI": (lambda f: with_hole(f, np.nan, ".nii.gz"), HOLE),
    "NaN in NRRD": (lambda f: with_hole(f, np.nan, ".nrrd"), HOLE),
    "infinity in NIfTI": (lambda f: with_hole(f, np.inf, ".nii"), HOLE),
    "infinity in MetaImage": (lambda f: with_hole(f, -np.inf, ".mha"), HOLE),
    "normalised": (
        lambda f: save(image((hounsfield(3) + 1024) / np.float32(2000)), f / "ct.nii.gz"),
        "vary less than the noise of any CT",
    ),
    "8-bit": (lambda f: save(image(np.zeros((2, 3, 4), np.uint8)), f / "ct.nii"), "8 bits"),
    "sheared": (sheared, "not perpendicular (its sform is sheared by 27 degrees)"),
    "cut-off .nii": (lambda f: cut(save(image(), f / "ct.nii")), "damaged, cut off"),
    "cut-off .nii.gz": (lambda f: cut(save(image(), f / "ct.nii.gz")), "damaged, cut off"),
    "slightly cut-off .nii.gz": (lambda f: cut(save(image(), f / "ct.nii.gz"), 0.995), "damaged, cut off"),
    "cut-off header": (lambda f: cut(save(image(), f / "ct.nii"), 0.2), "damaged, cut off"),
    "cut-off .nrrd": (lambda f: cut(save(image(), f / "ct.nrrd")), "damaged, cut off"),
    "cut-off .mha": (lambda f: cut(save(image(), f / "ct.mha")), "damaged, cut off"),
    "a flipped bit in NIfTI": (lambda f: flipped(f, ".nii.gz"), "damaged, cut off"),
    "a flipped bit in NRRD": (lambda f: flipped(f, ".nrrd"), "damaged, cut off"),
    "a flipped bit in MetaImage": (lambda f: flipped(f, ".mha"), "damaged, cut off"),
    "a flipped bit in .zraw": (lambda f: flipped(f, ".mhd", ".zraw"), "damaged, cut off"),
    "a flipped bit in .raw.gz": (lambda f: flipped(f, ".nhdr", ".raw.gz"), "damaged, cut off"),
    ".mhd without .raw": (without_raw, "the file with its values is not beside it"),
    "text": (lambda f: text(f / "ct.nii.gz", "this is no image"), "not what its name says"),
    "text as NRRD": (lambda f: text(f / "ct.nrrd", "this is no image"), "not what its name says"),
    "mixed case": (lambda f: text(f / "ct.Nii.gz", "any"), "rename the file so that it ends in '.nii.gz'"),
    "empty file": (lambda f: text(f / "ct.nii.gz", ""), "the file is empty"),
    "zero-size": (lambda f: text(f / "ct.nrrd", EMPTY_NRRD), "damaged, cut off"),
    "unknown kind": (
        lambda f: text(f / "ct.png", "picture"),
        "'ct.png' is a picture without HU; give the DICOM series",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_refused_files(tmp_path: Path, case: str, capfd: pytest.CaptureFixture[str]):
    make, words = REFUSALS[case]
    path = make(tmp_path)
    capfd.readouterr()
    with pytest.raises(InputError) as caught:
        CTVolume.read(path)
    sentence = str(caught.value)
    assert sentence.startswith(f"Cannot read '{path}': ") and words in sentence
    assert sentence.endswith(".") and "\n" not in sentence and not re.search(r"\. [A-Z]", sentence)
    assert capfd.readouterr().out == ""  # a worker's stdout carries JSON lines and nothing else


def test_refused_choices(tmp_path: Path):
    first, second = (save(image(), tmp_path / name) for name in ("a.nii", "b.nii"))
    with pytest.raises(InputError, match=re.escape("'a.nii' is a volume of its own; give it alone")):
        CTVolume.read([first, second])
    with pytest.raises(InputError, match="in DICOM folders only"):
        CTVolume.read(first, series=2)
    with pytest.raises(InputError, match=re.escape("must end in .nii.gz, .nii, .nrrd, .mha or .mhd")):
        volume().write(tmp_path / "ct.dcm")
    with pytest.raises(InputError, match="does not exist"):
        volume().write(tmp_path / "absent" / "ct.nii")


def test_maps_are_read_on_request(tmp_path: Path):
    spread = CTVolume(np.random.default_rng(0).uniform(0, 30, (2, 8, 8)))
    spread.write(tmp_path / "sd.nii.gz")
    with pytest.raises(InputError, match="nothing below zero"):
        CTVolume.read(tmp_path / "sd.nii.gz")
    assert CTVolume.read(tmp_path / "sd.nii.gz", check_hu=False).identity() == spread.identity()


@pytest.mark.parametrize("kind", ["noise", "whole numbers", "constant", "repeated"])
def test_packed_files_are_about_as_small_as_itks(tmp_path: Path, kind: str):
    """What is fastest depends on the values: a pattern that repeats must not be packed as noise is."""
    draw = np.random.default_rng(0)
    shape = (12, 128, 128)
    array = {
        "noise": draw.normal(0, 30, shape),
        "whole numbers": np.rint(draw.normal(0, 30, shape)),
        "constant": np.full(shape, 0.3),
        "repeated": np.tile(draw.normal(0, 30, 64), 12 * 128 * 2).reshape(shape),
    }[kind]
    made = CTVolume(array, (0.8, 0.8, 1.0))
    made.write(tmp_path / "ours.nii.gz")
    theirs = sitk.ReadImage(str(tmp_path / "ours.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(theirs), made.array)
    sitk.WriteImage(theirs, str(tmp_path / "itk.nii.gz"), useCompression=True)
    ours, itk = ((tmp_path / name).stat().st_size for name in ("ours.nii.gz", "itk.nii.gz"))
    assert ours <= 1.08 * itk + 1000
    assert gzip.decompress((tmp_path / "ours.nii.gz").read_bytes()) == gzip.decompress(
        (tmp_path / "itk.nii.gz").read_bytes()
    )


@pytest.mark.parametrize("suffix", WRITABLE_SUFFIXES)
def test_a_failed_writing_leaves_what_was_there(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / f"ct{suffix}"
    volume().write(path)
    before = {one.name: one.read_bytes() for one in tmp_path.iterdir()}
    genuine = sitk.WriteImage

    def on_a_full_disk(written: sitk.Image, name: str, **options: object) -> None:
        genuine(written, name, **options)
        cut(Path(name), 0.5)
        if not name.endswith((".nii", ".nii.gz")):  # ITK notices itself, except with NIfTI
            raise RuntimeError("File cannot be written")

    monkeypatch.setattr(sitk, "WriteImage", on_a_full_disk)
    with pytest.raises(CTEnhanceError, match="did not come out whole") as caught:
        volume(hounsfield(5)).write(path)
    assert str(path) in str(caught.value)
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == before


def test_a_volume_file_is_not_laid_straight(tmp_path: Path):
    CTVolume(np.zeros((2, 3, 4), np.float32)).write(tmp_path / "a.nrrd")
    with pytest.raises(InputError, match="only DICOM slices are laid straight: leave --resample-tilt out"):
        CTVolume.read(tmp_path / "a.nrrd", where={"GantryDetectorTilt": "resample"})
    with pytest.raises(InputError, match="can be chosen in DICOM folders only"):
        CTVolume.read(tmp_path / "a.nrrd", where={"KVP": "80"})
