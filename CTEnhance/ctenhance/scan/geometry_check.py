"""Is a scan's geometry what the file says? Opposite rays answer that, and the geometry with which they agree
says what is wrong: the order of the columns or the direction of rotation, the central column, the columns'
spacing, the shape of the detector, the steps of the view angles, exchanged axes.

Nothing is claimed unless another geometry makes the rays agree much better than the file's. Noise, scatter,
dead columns, lost views and bodies beyond the detector harm the agreement in every geometry alike. What no
readings can show: mirrored columns and a reversed rotation together (a mirror image), either of them with
parallel rays, the first view's angle, lengths that are all wrong by one factor, and the order of the slices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ctenhance.core.report import ReportBuilder
from ctenhance.physics.opposite_rays import UNKNOWN
from ctenhance.runtime.progress import Cancellable
from ctenhance.scan.air_level import air_warning, bin_air_warning, counts_warning, rows_warning
from ctenhance.scan.attenuation_level import attenuation_level, image_warning, level_warning
from ctenhance.scan.bin_check import bins_out_of_step
from ctenhance.scan.column_check import column_warning
from ctenhance.scan.geometry_fault import NOTE, WARNING, GeometryFault
from ctenhance.scan.geometry_search import Search
from ctenhance.scan.lost_columns import lost_columns
from ctenhance.scan.projections import Projections
from ctenhance.scan.some_rows import Row, read_rows
from ctenhance.scan.view_check import view_warning, views_aside


def check_geometry(
    projections: Projections, cancel: Cancellable | None = None, rows: Sequence[Row] | None = None
) -> tuple[GeometryFault | None, dict[str, Any]]:
    """What is likely wrong with a scan's geometry, None where nothing is known against it; and for the report
    `opposite_rays_differ`, None where hardly any ray has an opposite, and what is likely instead, as fields
    and as the `geometry_warning`; this alone where they differ much and nothing tried explains it. `rows`:
    those to look at, if they are read already. `geometry_note`: what of a fan could not be checked.

    Raises Cancelled when asked to stop."""
    rows = read_rows(projections) if rows is None else rows
    search = Search(projections, rows, cancel)
    fault = bins_out_of_step(rows, search.claimed, cancel) or search.fault()
    # views that lie aside in turn have a centre between them, which is not the file's
    moved = set(fault.likely) == {"central_column"} if fault is not None else False
    if fault is None or moved or not fault.certain:
        centre = float(fault.likely["central_column"]) if fault is not None and moved else None
        fault = views_aside(rows, search.differ, centre) or fault
    fault = lost_columns(search.rays, search.claimed, search.differ, fault, cancel) or fault
    differ = min(search.differ, search.aside)
    facts: dict[str, Any] = {"opposite_rays_differ": differ if differ < UNKNOWN else None}
    if fault is not None:
        facts |= {
            "opposite_rays_differ_if": fault.differ_if,
            "likely_geometry": fault.likely,
            WARNING: fault.sentence,
        }
    elif sentence := search.unexplained():
        facts[WARNING] = sentence
    elif projections.geometry != "parallel" and not projections.meta.get(WARNING):
        facts["spacing_checked"] = search.spacing_checked()
        facts[NOTE] = search.unchecked(facts["spacing_checked"])
    return fault, facts


def tell_geometry(
    projections: Projections, report: ReportBuilder, cancel: Cancellable | None = None
) -> dict[str, Any]:
    """Check the geometry, the readings and what the body attenuates, and warn. Return the fields of
    `check_geometry`, a `counts_warning` on readings that are none, a `values_warning` on values that are off
    in the whole image, whether energy `bins_agree` in place and air, and whether all is `consistent`: none of
    these three warnings was given, nor one on the geometry by what made the projections (the slices of a
    helix)."""
    with report.stage("geometry"):
        rows = read_rows(projections)
        fault, facts = check_geometry(projections, cancel, rows)
        level = attenuation_level(projections, rows)
        air = air_warning(rows)
        bins = None if air else bin_air_warning(rows)
        values = air or bins or rows_warning(projections)
        if values is None and fault is None and level is not None:
            values = level_warning(level, projections)
        facts |= {"counts_warning": counts_warning(rows), "values_warning": values}
        if projections.n_bins is not None:
            facts["bins_agree"] = bins is None and "bins" not in facts.get("likely_geometry", {})
        others = [column_warning(rows), view_warning(rows), image_warning(projections)]
    wrong = [facts.get(f"{what}_warning") for what in ("counts", "values", "geometry")]
    for warning in filter(None, [*wrong, *others]):
        report.warn(warning)
    for note in filter(None, [facts.get(NOTE), projections.meta.get(NOTE)]):
        report.note(str(note))
    # the user has it already, among the notes of the projections
    if by_reader := projections.meta.get(WARNING):
        facts[WARNING] = facts.get(WARNING) or str(by_reader)
        wrong.append(facts[WARNING])
    known = {
        name: fact
        for name, fact in facts.items()
        if fact is not None or not name.endswith(("_warning", "_note"))
    }
    return {"consistent": not any(wrong), "attenuation_level_hu": level} | known
