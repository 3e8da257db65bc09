"""Fan beams: the convention, the projector and its adjoint, reconstruction of any scan, and ASTRA."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from ctenhance.physics import fbp as fbp_module  # the module
from ctenhance.physics import gather, projector
from ctenhance.physics.analytic import Ellipse, ellipse_sinogram
from ctenhance.physics.fbp import fbp
from ctenhance.physics.geometry import FanGeometry, ParallelGeometry, ScanGeometry, even_angles
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.physics.pixels import backproject_pixels
from ctenhance.physics.projector import backproject, project
from ctenhance.physics.redundancy import ray_weights
from ctenhance.physics.units import MU_WATER_PER_MM, mu_to_hu
from ctenhance.runtime.errors import Cancelled, InputError
from ctenhance.runtime.progress import CancelToken

SID, SDD = 595.0, 1085.6
SHAPES = ["flat", "equiangular"]
GRID = ImageGrid(160, 200, 1.6)
#: Pi plus the fan angle of `fan()`, and a little.
SHORT = math.radians(219)


def fan(shape: str = "flat", views: tuple[float, ...] | None = None, **changes: object) -> FanGeometry:
    pitch = 2.0 if shape == "flat" else 2.0 / SDD
    angles = even_angles(480) if views is None else views
    return replace(FanGeometry(shape, SID, SDD, pitch, 360, 179.5, angles), **changes)  # type: ignore[arg-type]


def random(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


# --- the convention of docs/geometry.md


@pytest.mark.parametrize(
    ("shape", "degrees", "column"), [("flat", 0, 11.61), ("equiangular", 60, 7.87), ("flat", 90, 4.78)]
)
def test_a_point_lands_where_the_picture_says(shape: str, degrees: int, column: float) -> None:
    """150 mm to the patient's left and 60 mm anterior; the picture's 15 columns, each in 50 parts."""
    pitch = 66.0 / 50 if shape == "flat" else 66.0 / 50 / SDD
    geometry = FanGeometry(shape, SID, SDD, pitch, 750, 7.5 * 50 - 0.5, (math.radians(degrees),))
    image = torch.zeros(161, 241)
    image[80 - 30, 120 + 75] = 1
    seen = project(image, geometry, ImageGrid(161, 241, 2.0))[0]
    found = float((seen * torch.arange(750)).sum() / seen.sum())
    assert (found + 0.5) / 50 - 0.5 == pytest.approx(column, abs=0.01)


@pytest.mark.parametrize("shape", SHAPES)
def test_rays_leave_the_source_and_meet_their_columns(shape: str) -> None:
    geometry = fan(shape, views=(0.0, 2.0), central_column=170.25)
    origin, direction = geometry.rays()
    torch.testing.assert_close(origin[0, 0], torch.tensor([0.0, -SID], dtype=torch.float64))
    torch.testing.assert_close(
        origin[1, 0], SID * torch.tensor([math.sin(2), -math.cos(2)], dtype=torch.float64)
    )
    angle = torch.atan2(direction[0, :, 0], direction[0, :, 1])
    torch.testing.assert_close(angle, geometry.column_angles())
    offset = origin[..., 0] * direction[..., 1] - origin[..., 1] * direction[..., 0]
    torch.testing.assert_close(offset, geometry.ray_offsets_mm().expand(2, -1))


def test_an_image_off_centre_is_a_part_of_the_large_image() -> None:
    scan, large = fan(views=even_angles(7)), ImageGrid(40, 60, 1.6)
    image = torch.zeros(40, 60)
    image[5:25, 30:56] = random(20, 26).float()
    small = ImageGrid(20, 26, 1.6, center_mm=((43 - 30) * 1.6, (15 - 20) * 1.6))
    part = project(image[5:25, 30:56], scan, small)
    torch.testing.assert_close(part, project(image, scan, large), rtol=0, atol=2e-3)


def test_the_field_of_view_is_what_every_view_sees() -> None:
    geometry = fan(central_column=170.0)
    edge = math.atan(170.5 * 2.0 / SDD)
    assert geometry.field_of_view_mm == pytest.approx(2 * SID * math.sin(edge))
    parallel = ParallelGeometry(10, 100, 1.5, central_column=40.0)
    assert parallel.field_of_view_mm == pytest.approx(2 * 40.5 * 1.5)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"shape": "round"}, "flat or equiangular"),
        ({"source_to_detector_mm": 500.0}, "before the isocentre"),
        ({"column_pitch": 0.0}, "column pitch must be positive"),
        ({"source_to_isocenter_mm": math.nan}, "must be positive and finite"),
        ({"view_angles": (0.0, math.inf)}, "finite numbers"),
        ({"view_angles": ()}, "at least one view"),
        ({"shape": "equiangular", "column_pitch": 2.0}, "90 degrees"),
    ],
)
def test_geometries_that_make_no_scan_are_refused(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        fan(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"rows": 0}, "no pixel"),
        ({"pixel_mm": math.inf}, "pixel size must be positive"),
        ({"center_mm": (0.0, math.nan)}, "finite numbers"),
    ],
)
def test_grids_that_make_no_image_are_refused(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        replace(GRID, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("operator", [project, backproject, fbp])
def test_an_image_beyond_the_source_is_refused(operator) -> None:  # type: ignore[no-untyped-def]
    image = torch.zeros((160, 200) if operator is project else (480, 360))
    with pytest.raises(InputError, match="beyond the source"):
        operator(image, fan(), replace(GRID, pixel_mm=8.0))


def test_view_angles_have_to_match_the_views() -> None:
    with pytest.raises(InputError, match="one angle a view"):
        ParallelGeometry(4, 10, 1.0, view_angles=(0.0, 1.0))


# --- projector and adjoint

ODD = [
    (
        fan("flat", even_angles(23), n_columns=90, column_pitch=3.1, central_column=40.3),
        ImageGrid(31, 50, 1.6),
    ),
    (
        fan("equiangular", even_angles(23, 4.0, 1.0), n_columns=80, central_column=44.75),
        ImageGrid(50, 31, 1.6),
    ),
    (fan("flat", even_angles(11)), ImageGrid(20, 24, 1.6, (60.0, -35.5))),
    (
        ParallelGeometry(9, 60, 2.1, view_angles=even_angles(9, 5.0), central_column=33.2),
        ImageGrid(30, 41, 1.6, (9.0, 4.0)),
    ),
]


@pytest.mark.parametrize(("geometry", "grid"), ODD)
@pytest.mark.parametrize("slices", [(1,), (2, 4)], ids=["scattered", "gathered"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_backproject_is_the_exact_adjoint(
    geometry: ScanGeometry, grid: ImageGrid, slices: tuple[int, ...], dtype: torch.dtype, tolerance: float
) -> None:
    x = random(*slices, *grid.shape, dtype=dtype, seed=1) + 0.5
    y = random(*slices, geometry.n_views, geometry.n_columns, dtype=dtype, seed=2) + 0.5
    left = (project(x, geometry, grid) * y).sum(dtype=torch.float64)
    right = (x * backproject(y, geometry, grid)).sum(dtype=torch.float64)
    assert abs(left - right) <= tolerance * abs(left)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_are_those_of_finite_differences(shape: str) -> None:
    grid = ImageGrid(6, 7, 20.0)
    geometry = fan(shape, even_angles(6), n_columns=12)
    geometry = replace(geometry, column_pitch=geometry.column_pitch * 20, central_column=5.6)
    image, sinogram = random(6, 7).requires_grad_(), random(6, 12).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: project(x, geometry, grid), (image,), atol=1e-6)
    assert torch.autograd.gradcheck(lambda y: backproject(y, geometry, grid), (sinogram,), atol=1e-6)
    assert torch.autograd.gradcheck(lambda y: fbp(y, geometry, grid, "standard"), (sinogram,), atol=1e-6)


@pytest.mark.parametrize(("geometry", "grid"), ODD)
def test_slices_together_are_the_slices_alone(
    geometry: ScanGeometry, grid: ImageGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One slice, some slices, more slices than are worked on at once, blocks of few lines."""
    image = random(5, *grid.shape, dtype=torch.float32)
    sinogram = random(5, geometry.n_views, geometry.n_columns, dtype=torch.float32)
    alone = torch.stack([project(one, geometry, grid) for one in image])
    images = torch.stack([backproject_pixels(one, geometry, grid) for one in sinogram])
    adjoints = torch.stack([backproject(one, geometry, grid) for one in sinogram])
    monkeypatch.setattr(projector, "SLICES_AT_ONCE", 3)
    monkeypatch.setattr(projector, "_SCATTERED_SLICES", 0)  # the last two slices and the last one gather, too
    monkeypatch.setattr(projector, "_CPU_TABLE", 2000)
    monkeypatch.setattr(gather, "_CPU_SAMPLES", 3000)
    torch.testing.assert_close(project(image, geometry, grid), alone, rtol=1e-4, atol=1e-3)
    together = backproject_pixels(sinogram, geometry, grid)
    torch.testing.assert_close(together, images, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(backproject(sinogram, geometry, grid), adjoints, rtol=1e-3, atol=2e-3)
    torch.testing.assert_close(backproject(sinogram[0], geometry, grid), adjoints[0], rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("weighted", [False, True])
def test_devices_without_an_embedding_bag_sum_the_same(weighted: bool) -> None:
    table = random(40, 3)
    index = torch.randint(40, (11, 7), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    weight = random(11, 7) if weighted else None
    expected = table[index.long()] * (1 if weight is None else weight[..., None])
    torch.testing.assert_close(gather.gather_sum(table, index, weight), expected.sum(1))
    torch.testing.assert_close(gather._sum_by_sample(table, index, weight), expected.sum(1))


@pytest.mark.parametrize("geometry", [fan("flat"), fan("equiangular", central_column=150.3)])
def test_line_integrals_of_ellipses_are_exact(geometry: FanGeometry) -> None:
    ellipses = [Ellipse(0.02, (90, 55), (12, -7), 0.4), Ellipse(-0.01, (30, 20), (30, 10), -0.2)]
    few, fine = geometry.with_views(geometry.view_angles[::60]), ImageGrid(640, 800, 0.4)
    image = sum(e.mu_per_mm * e.covers(fine).float() for e in ellipses)
    exact, found = ellipse_sinogram(few, ellipses), project(torch.as_tensor(image), few, fine)
    assert float((exact - found).abs().mean()) < 0.002
    assert float((exact - found).abs().max()) < 0.02 * float(exact.max())


def test_an_ellipse_is_crossed_along_its_axes() -> None:
    geometry = fan(views=(0.0, math.pi / 2), central_column=180.0)
    through_centre = ellipse_sinogram(geometry, [Ellipse(1.0, (90, 55))])[:, 180]
    torch.testing.assert_close(through_centre, torch.tensor([110.0, 180.0], dtype=torch.float64))


# --- reconstruction

SCANS: dict[str, dict[str, object]] = {
    "full": {},
    "short": {"view_angles": even_angles(330, SHORT, 0.7)},
    "short, other way round": {"view_angles": even_angles(330, -SHORT, 0.7)},
    "between short and full": {"view_angles": even_angles(400, math.radians(270), -2.0)},
    "one and a third turns": {"view_angles": even_angles(640, math.radians(480))},
    "first view repeated": {"view_angles": tuple(np.linspace(-math.pi / 2, 1.5 * math.pi, 481).tolist())},
    "uneven": {"view_angles": tuple((2 * math.pi * np.linspace(0, 1, 480, False) ** 1.2).tolist())},
    "quarter detector offset": {"central_column": 179.75},
    "detector off centre": {"central_column": 167.3},
    "half a detector": {"central_column": 60.3},
    "short, off centre": {"view_angles": even_angles(330, SHORT, 0.7), "central_column": 172.6},
    "image off centre": {"center_mm": (20.0, -30.0)},
}


def assert_water(image: torch.Tensor, grid: ImageGrid, disc: Ellipse) -> None:
    """Within 2 HU: inside, outside, in the core, and in each quarter (no cupping, no shading)."""
    hu = mu_to_hu(image)
    inner, outer = disc.covers(grid, 0.9), ~disc.covers(grid, 1.15)
    assert abs(float(hu[inner].mean())) < 2
    assert abs(float(hu[outer].mean()) + 1000) < 2
    assert abs(float(hu[disc.covers(grid, 0.2)].mean())) < 2
    x, y = grid.x_mm()[None] - disc.center_mm[0], grid.y_mm()[:, None] - disc.center_mm[1]
    for left in (x < 0, x >= 0):
        for top in (y < 0, y >= 0):
            assert abs(float(hu[inner & left & top].mean())) < 2
    assert float(hu[inner].std()) < 8


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scan", SCANS)
def test_water_is_water_in_every_kind_of_scan(shape: str, scan: str) -> None:
    changes = dict(SCANS[scan])
    grid = replace(GRID, center_mm=changes.pop("center_mm", (0.0, 0.0)))  # type: ignore[arg-type]
    geometry = fan(shape, **changes)
    disc = Ellipse(MU_WATER_PER_MM, (90, 90), (12, -7))
    assert_water(fbp(ellipse_sinogram(geometry, [disc], 2).float(), geometry, grid), grid, disc)


@pytest.mark.parametrize("central", [12.3, 340.7])
@pytest.mark.parametrize("shape", [*SHAPES, "parallel"])
def test_air_far_out_is_air_where_the_detector_stands_far_aside(shape: str, central: float) -> None:
    """The half of each view that is not measured is filtered from all of the other."""
    scan: ScanGeometry = ParallelGeometry(480, 360, 0.55, 2 * math.pi, central_column=central)
    if shape != "parallel":
        pitch = 1.0 if shape == "flat" else 1.0 / SDD
        scan = fan(shape, column_pitch=pitch, central_column=central)
    disc = Ellipse(MU_WATER_PER_MM, (110, 70), (12, -7))
    hu = mu_to_hu(fbp(ellipse_sinogram(scan, [disc], 2).float(), scan, GRID))
    away = torch.hypot(GRID.x_mm()[None], GRID.y_mm()[:, None])
    for low in (120, 140, 160):
        ring = (away >= low) & (away < low + 20) & ~disc.covers(GRID, 1.1)
        assert float(hu[ring].mean()) == pytest.approx(-1000, abs=2)


@pytest.mark.parametrize(
    ("changes", "middle"),
    [
        ({"arc_rad": 2 * math.pi, "central_column": 120.3}, (0.0, 0.0)),
        ({"view_angles": even_angles(360, math.radians(250), 1.0)}, (0.0, 0.0)),
        ({"view_angles": even_angles(360, -math.pi, 1.0)}, (-15.0, 12.0)),
    ],
)
def test_water_is_water_for_parallel_rays(changes: dict[str, object], middle: tuple[float, float]) -> None:
    geometry = ParallelGeometry(360, 300, 1.2, **changes)  # type: ignore[arg-type]
    grid = replace(GRID, center_mm=middle)
    disc = Ellipse(MU_WATER_PER_MM, (90, 90), (12, -7))
    assert_water(fbp(ellipse_sinogram(geometry, [disc], 2).float(), geometry, grid), grid, disc)


def test_the_projectors_own_sinogram_is_reconstructed() -> None:
    """Projection and FBP on finer pixels; an ellipse off centre comes back where it was, in HU."""
    geometry, grid = fan("equiangular"), ImageGrid(320, 400, 0.8)
    ellipse = Ellipse(MU_WATER_PER_MM, (90, 50), (15, -20), 0.3)
    image = ellipse.mu_per_mm * ellipse.covers(grid).float()
    hu = mu_to_hu(fbp(project(image, geometry, grid), geometry, grid, "standard"))
    assert abs(float(hu[ellipse.covers(grid, 0.9)].mean())) < 2
    weight = (hu > -500).float()
    assert float((weight * grid.x_mm()).sum() / weight.sum()) == pytest.approx(15, abs=0.2)
    assert float((weight * grid.y_mm()[:, None]).sum() / weight.sum()) == pytest.approx(-20, abs=0.2)


@pytest.mark.parametrize("shape", [*SHAPES, "parallel"])
@pytest.mark.parametrize("start", [0.0, 0.3])
def test_quarter_turns_change_rounding_alone(
    shape: str, start: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Views a quarter turn apart are worked on together; a phantom that is not alike when turned tells."""
    angles = even_angles(240, start_rad=start)
    geometry: ScanGeometry = fan(shape, angles) if shape != "parallel" else _parallel(angles)
    grid = ImageGrid(150, 150, 1.6)
    image = torch.zeros(2, *grid.shape, dtype=torch.float64)
    image[0, 30:60, 20:110], image[1, 90:120, 100:115] = 0.02, 0.03
    sinogram = project(image, geometry, grid)
    outside = tuple(0.001 * random(2, 240, 8, seed=n) for n in (1, 2))
    found = [fbp(sinogram, geometry, grid, "soft", outside=outside)]  # type: ignore[arg-type]
    assert fbp_module._in_quarter_turns(geometry, grid)
    monkeypatch.setattr(fbp_module, "_in_quarter_turns", lambda *_: False)
    found.append(fbp(sinogram, geometry, grid, "soft", outside=outside))  # type: ignore[arg-type]
    # samples that lie half way between two are rounded either way
    assert float((found[0] - found[1]).std()) < 2e-6
    assert float((found[0] - found[1]).abs().max()) < 2e-4


def _parallel(angles: tuple[float, ...]) -> ParallelGeometry:
    return ParallelGeometry(len(angles), 320, 1.0, view_angles=angles, central_column=159.75)


def test_quarter_turns_are_recognised() -> None:
    square = ImageGrid(64, 64, 1.0)
    whole = fan(views=even_angles(240))
    assert fbp_module._in_quarter_turns(whole, square)
    assert fbp_module._in_quarter_turns(fan(views=even_angles(240, -2 * math.pi)), square) is False
    for views in (
        even_angles(241),
        even_angles(242),
        even_angles(240, math.pi),
        even_angles(240, 1.99 * math.pi),
    ):
        assert not fbp_module._in_quarter_turns(fan(views=views), square)
    uneven = list(even_angles(240))
    uneven[100] += 1e-4
    assert not fbp_module._in_quarter_turns(fan(views=tuple(uneven)), square)
    assert not fbp_module._in_quarter_turns(whole, ImageGrid(64, 65, 1.0))
    assert not fbp_module._in_quarter_turns(whole, ImageGrid(64, 64, 1.0, (0.5, 0.0)))


@pytest.mark.parametrize("arc", [SHORT, 4.5, 2 * math.pi, 8.0])
def test_a_line_counts_once_however_often_it_was_measured(arc: float) -> None:
    """The shares of a ray and of all that run along its line add up to one."""
    geometry = fan("equiangular", even_angles(720, arc, 0.3), central_column=179.5)
    weights, angles = ray_weights(geometry, GRID), geometry.angles()
    column_angle = geometry.column_angles()
    for view, column in [(5, 60), (300, 179), (360, 300), (700, 20)]:
        line = float(angles[view] - column_angle[column])
        total = 0.0
        for number, turn in ((column, 0.0), (359 - column, math.pi)):
            at = line + turn + float(column_angle[number])
            away = torch.remainder(angles - at + math.pi, 2 * math.pi) - math.pi
            near = 1 - away.abs() / (arc / 720)  # what stands for this line, interpolated between views
            total += float((weights[:, number] * near.clamp(min=0)).sum())
        assert total / (arc / 720) == pytest.approx(1, abs=0.02)


def test_an_arc_that_is_too_short_is_refused() -> None:
    geometry = fan(views=even_angles(300, math.radians(190)))
    with pytest.raises(InputError, match=r"cover 190 degrees, but this scan needs 2\d\d"):
        fbp(torch.zeros(300, 360), geometry, GRID)
    parallel = ParallelGeometry(50, 300, 1.2, view_angles=even_angles(50, 2.0))
    with pytest.raises(InputError, match="needs 180"):
        fbp(torch.zeros(50, 300), parallel, ImageGrid(16, 20, 1.6))


def test_a_detector_beside_the_isocentre_is_refused() -> None:
    with pytest.raises(InputError, match="no view sees the isocentre"):
        fbp(torch.zeros(480, 360), fan(central_column=-3.0), GRID)


@pytest.mark.parametrize("operator", [project, backproject, fbp])
def test_a_wrong_shape_is_refused_and_cancelling_is_heeded(operator) -> None:  # type: ignore[no-untyped-def]
    geometry = fan(views=even_angles(30))
    with pytest.raises(InputError, match="geometry says"):
        operator(torch.zeros(2, 3, 4), geometry, GRID)
    token = CancelToken()
    token.cancel()
    shape = (160, 200) if operator is project else (30, 360)
    with pytest.raises(Cancelled):
        operator(torch.zeros(shape), geometry, GRID, cancel=token)


# --- an independent simulator


def astra_sinogram(image: np.ndarray, geometry: FanGeometry, grid: ImageGrid) -> np.ndarray:
    """ASTRA's flat fan beam by the conversion that DESIGN documents: angles pi - b, columns reversed."""
    astra = pytest.importorskip("astra", reason="astra-toolbox is not installed")
    half_x, half_y = grid.columns * grid.pixel_mm / 2, grid.rows * grid.pixel_mm / 2
    volume = astra.create_vol_geom(*grid.shape, -half_x, half_x, -half_y, half_y)
    angles = math.pi - geometry.angles().numpy()
    beam = astra.create_proj_geom(
        "fanflat", geometry.column_pitch, geometry.n_columns, angles, SID, SDD - SID
    )
    beam_projector = astra.create_projector("line_fanflat", beam, volume)
    identity, sinogram = astra.create_sino(image, beam_projector)
    astra.data2d.delete(identity)
    astra.projector.delete(beam_projector)
    return np.ascontiguousarray(sinogram[:, ::-1])


def test_agrees_with_astra_forward_and_after_reconstruction() -> None:
    scan, fine, coarse = fan("flat", even_angles(360)), ImageGrid(400, 500, 0.64), GRID
    body = Ellipse(MU_WATER_PER_MM, (110, 80), (12, -7), 0.2)
    parts = [body, Ellipse(0.6 * MU_WATER_PER_MM, (15, 15), (50, 20)), Ellipse(-0.01, (30, 18), (-40, -10))]
    image = torch.as_tensor(sum(e.mu_per_mm * e.covers(fine).float() for e in parts))
    theirs = torch.from_numpy(astra_sinogram(image.numpy(), scan, fine))
    ours = project(image, scan, fine)
    assert float((ours - theirs).square().mean().sqrt()) < 3e-3 * float(theirs.max())

    hu, reference = (mu_to_hu(fbp(s, scan, coarse, "standard")) for s in (theirs, ours))
    for part, level in zip(parts, (0, 600, -1000 * 0.01 / MU_WATER_PER_MM), strict=True):
        core = part.covers(coarse, 0.7)
        if part is body:
            core &= ~parts[1].covers(coarse, 1.4) & ~parts[2].covers(coarse, 1.4)
        assert abs(float(hu[core].mean()) - level) < 2
        assert abs(float((hu - reference)[core].mean())) < 0.5
