"""The report's plots: one matplotlib figure for each thing that the answers can show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ctenhance.study.analysis import Results
from ctenhance.study.detection import Scores, rating_split, scored_questions
from ctenhance.study.gathered import Gathered
from ctenhance.study.questions import PAIR, PREFERENCES, Question
from ctenhance.study.statistics import roc, vgc
from ctenhance.study.statistics.estimate import Estimate
from ctenhance.study.statistics.paired import binomial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 7.2  # inches, the text width of a page
ARM_COLOURS = ("#d07a2d", "#2f7fc1", "#4c9a5b", "#8a5fb0", "#777777")
SCALE_COLOURS = ("#a63d2f", "#d8875f", "#d9d5cc", "#7fb0d6", "#2a6ca8")


def plots(results: Results) -> Iterator[tuple[str, Figure]]:
    """Yield caption and figure of every plot that the answers give; close each figure after use."""
    gathered = results.gathered
    graded = [one for one in gathered.questions if one.kind == "likert" and one.scope != PAIR]
    if graded:
        yield "Grades by arm (share of answers).", _grades(gathered, graded)
        for first, second in gathered.pairs:
            caption = f"Visual grading characteristics, {second} against {first}, all readers together."
            yield caption, _grading_curves(gathered, graded, first, second)
    if any(one.id == "comparison" for one in results.tables):
        yield "Shift of the grades between arms with 95 % intervals.", _shifts(results)
    for question in gathered.questions:
        if question.kind == "preference":
            for first, second in gathered.pairs:
                caption = (
                    f"{question.text} Share of answers, from '{first} much better' to '{second} much better'."
                )
                yield caption, _preferences(gathered, question, first, second)
        if question.kind == "choice":
            yield "Forced choice by reader with 95 % intervals.", _choices(results, question)
    for scores in scored_questions(gathered):
        question = scores.question
        if question.kind == "number":
            yield f"{question.text} – ROC curves of single readers and their mean.", _roc(scores)
        yield f"{question.text} – {scores.name} by reader.", _figures(results, question, scores.name)


def _figure(rows: int, columns: int, height: float) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = list(np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel())
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _grades(gathered: Gathered, questions: list[Question]) -> Figure:
    bars = [(question, arm) for question in questions for arm in gathered.arms]
    figure, (axes,) = _figure(1, 1, 0.8 + 0.3 * len(bars))
    for place, (question, arm) in enumerate(bars):
        values = np.array([one.value for one in gathered.of(question, arm)])
        shares = [
            float((values == grade).mean()) if len(values) else 0.0 for grade, _words in question.choices
        ]
        colours = [SCALE_COLOURS[round(4 * k / (len(shares) - 1))] for k in range(len(shares))]
        axes.barh(
            [place] * len(shares), shares, left=np.cumsum([0, *shares[:-1]]), color=colours, height=0.75
        )
    axes.set_yticks(range(len(bars)), [f"{question.text}: {arm}" for question, arm in bars], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("Share of answers (red: lowest grade, blue: highest)")
    return figure


def _grading_curves(gathered: Gathered, questions: list[Question], first: str, second: str) -> Figure:
    columns = min(3, len(questions))
    rows = -(-len(questions) // columns)
    figure, axes = _figure(rows, columns, 0.4 + 2.4 * rows)
    for one in axes[len(questions) :]:
        one.set_visible(False)
    for place, question in zip(axes, questions, strict=False):
        grades = [gathered.grid(gathered.of(question, arm)).ravel() for arm in (first, second)]
        x, y = vgc.curve(grades[0], grades[1])
        place.plot(x, y, "o-", color=ARM_COLOURS[1], markersize=3)
        _square(place, f"{first}: share graded at least so", f"{second}: share")
        place.set_title(question.text, fontsize=9)
    return figure


def _square(axes: Axes, across: str, up: str) -> None:
    axes.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=0.8, zorder=0)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.set_xlabel(across, fontsize=8)
    axes.set_ylabel(up, fontsize=8)
    axes.tick_params(labelsize=8)


def _shifts(results: Results) -> Figure:
    table = results.table("comparison")
    named = [(f"{row[0]}: {row[1]} → {row[2]}", row[3]) for row in table.rows]
    return _forest(named, 0.0, "Shift (grades)")


def _forest(named: Sequence[tuple[str, object]], null: float, label: str, band: float = 0.0) -> Figure:
    figure, (axes,) = _figure(1, 1, 0.9 + 0.3 * len(named))
    if band:
        axes.axvspan(null - band, null + band, color="#e6eef5", zorder=0)
    axes.axvline(null, color="#999999", linewidth=0.8)
    for place, (_name, estimate) in enumerate(named):
        if not isinstance(estimate, Estimate) or estimate.value is None:
            continue
        if estimate.low is not None and estimate.high is not None:
            axes.plot([estimate.low, estimate.high], [place, place], color=ARM_COLOURS[1], linewidth=1.5)
        axes.plot(estimate.value, place, "s", color=ARM_COLOURS[1], markersize=5)
    axes.set_yticks(range(len(named)), [name for name, _estimate in named], fontsize=8)
    axes.set_ylim(len(named) - 0.5, -0.5)
    axes.set_xlabel(label)
    return figure


def _preferences(gathered: Gathered, question: Question, first: str, second: str) -> Figure:
    from matplotlib.patches import Patch

    grid = gathered.grid(gathered.of(question, second, first))
    named = [*zip(gathered.readers, grid, strict=True), ("all", grid.ravel())]
    figure, (axes,) = _figure(1, 1, 1.1 + 0.3 * len(named))
    for place, (_name, row) in enumerate(named):
        known = row[np.isfinite(row)]
        shares = [float((known == value).mean()) if len(known) else 0.0 for value in range(-2, 3)]
        start = -shares[0] - shares[1] - shares[2] / 2
        lefts = start + np.cumsum([0, *shares[:-1]])
        axes.barh([place] * 5, shares, left=lefts, color=SCALE_COLOURS, height=0.7)
    axes.axvline(0, color="#555555", linewidth=0.8)
    axes.set_yticks(range(len(named)), [name for name, _row in named])
    axes.set_ylim(len(named) - 0.5, -0.5)
    axes.set_xlim(-1, 1)
    axes.set_xlabel(f"Share of answers: {first} preferred to the left, {second} to the right")
    axes.xaxis.set_major_formatter(lambda value, _place: f"{abs(value):.0%}")
    names = [words.replace("Left", first).replace("Right", second) for words in PREFERENCES]
    handles = [Patch(color=colour) for colour in SCALE_COLOURS]
    figure.legend(handles, names, loc="outside lower center", ncols=5, fontsize=7, frameon=False)
    return figure


def _choices(results: Results, question: Question) -> Figure:
    gathered = results.gathered
    named: list[tuple[str, object]] = []
    for first, second in gathered.pairs:
        given = gathered.of(question, second, first)
        grid = gathered.grid(given, correct=any(one.correct is not None for one in given))
        named += [(f"{reader}", binomial(row)) for reader, row in zip(gathered.readers, grid, strict=True)]
    return _forest(named, 0.5, "Share (shaded: margin of equivalence)", results.study["margin"])


def _roc(scores: Scores) -> Figure:
    gathered = scores.gathered
    figure, (axes,) = _figure(1, 1, 4.2)
    grid = np.linspace(0, 1, 201)
    for number, arm in enumerate(gathered.arms):
        colour = ARM_COLOURS[number % len(ARM_COLOURS)]
        curves = []
        for reader in gathered.readers:
            split = rating_split(scores, arm, reader)
            if split is None:
                continue
            false, true = roc.roc_points(*split)
            axes.plot(false, true, color=colour, linewidth=0.6, alpha=0.6)
            # The highest true-positive fraction at each false-positive one, so that steps stay steps.
            last = np.searchsorted(false, grid, side="right") - 1
            curves.append(np.maximum(np.interp(grid, false, true), true[last]))
        if curves:
            axes.plot(grid, np.mean(curves, axis=0), color=colour, linewidth=2, label=arm)
    _square(axes, "False-positive fraction", "True-positive fraction")
    axes.legend(frameon=False, loc="lower right")
    return figure


def _figures(results: Results, question: Question, name: str) -> Figure:
    rows = results.table(f"figures.{question.id}").rows
    arms = list(dict.fromkeys(str(row[0]) for row in rows))
    readers = list(dict.fromkeys(str(row[1]) for row in rows))
    figure, (axes,) = _figure(1, 1, 0.9 + 0.35 * len(readers) * max(1, len(arms) / 2))
    for number, arm in enumerate(arms):
        shift = (number - (len(arms) - 1) / 2) * 0.25
        own = [row[2] for row in rows if row[0] == arm]
        for place, estimate in enumerate(own):
            if not isinstance(estimate, Estimate) or estimate.value is None:
                continue
            colour = ARM_COLOURS[number % len(ARM_COLOURS)]
            label = arm if place == 0 else None
            if estimate.low is not None and estimate.high is not None:
                axes.plot([estimate.low, estimate.high], [place + shift] * 2, color=colour, linewidth=1.5)
            axes.plot(estimate.value, place + shift, "s", color=colour, markersize=5, label=label)
    axes.set_yticks(range(len(readers)), readers)
    axes.set_ylim(len(readers) - 0.5, -0.5)
    axes.set_xlabel(f"{name} (95 % interval)")
    figure.legend(loc="outside upper right", ncols=len(arms), frameon=False, fontsize=8)
    return figure
