"""From the figures of all patients to tables and verdicts, as text and as Markdown."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student_t

from ctenhance.runtime.files import write_text
from ctenhance.study.statistics.estimate import bootstrap_limits

#: How far (HU) a tissue's mean may move, how much a clean input may change (HU), how many seconds a slice of
#: 512² may take.
BIAS_LIMITS = {"fat": 3.0, "soft": 3.0, "lung": 3.0, "air": 3.0, "bone": 8.0}
CLEAN_LIMIT_HU = 6.0
SECONDS_LIMIT = 1.5
#: Inputs that are clean already.
CLEAN = {"clean": "the reference, enhanced,", "quiet": "its quiet copy, enhanced,"}
NONE = "–"
#: Name and kind of what every method starts from.
INPUT = "input"
#: Figure of the noise of the reference.
NOISE = "reference_noise_hu"

Patient = Mapping[str, Any]
#: Kinds of methods that the project's models are held against; those tuned on the slices are the ceiling.
RIVALS = ("peer", "ceiling", "trained peer")
RESAMPLES, FEWEST_PATIENTS = 4000, 3
#: Slices that a jackknife needs.
FEWEST_SLICES = 4


@dataclass(frozen=True)
class Table:
    """A title, a header and rows of text; the first column is words, the others are figures."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def text(self) -> str:
        """Columns aligned by spaces."""
        lines = [self.header, *self.rows]
        width = [max(len(line[k]) for line in lines) for k in range(len(self.header))]
        shown = [
            "  ".join(
                cell.ljust(w) if k == 0 else cell.rjust(w)
                for k, (cell, w) in enumerate(zip(line, width, strict=True))
            )
            for line in lines
        ]
        rule = "-" * (sum(width) + 2 * (len(width) - 1))
        return "\n".join([self.title, rule, shown[0], rule, *shown[1:], *([self.note] if self.note else [])])

    def markdown(self) -> str:
        """A Markdown table under a heading."""
        rows = [self.header, ("---", *["---:"] * (len(self.header) - 1)), *self.rows]
        lines = ["| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in rows]
        return "\n".join([f"### {self.title}", "", *lines, *(["", self.note] if self.note else [])])


def report(results: Any, tables: Sequence[Table], out: Path | None, name: str) -> None:
    """Print the tables, and write them and the `results` into the folder `out`, as `name`.md and .json."""
    print("\n\n".join(table.text() for table in tables))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / f"{name}.json", json.dumps(results, indent=1) + "\n")
        write_text(out / f"{name}.md", "\n\n".join(table.markdown() for table in tables) + "\n")


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of what is there; None where nothing is."""
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


def _worst(values: Iterable[float | None]) -> float | None:
    """The value furthest from zero, with its sign; None where there is none."""
    return max((value for value in values if value is not None), key=abs, default=None)


def _show(value: float | None, digits: int, sign: bool = False) -> str:
    return NONE if value is None else f"{value:{'+' if sign else ''}.{digits}f}"


def _of(patients: Sequence[Patient], method: str, key: str) -> list[Any]:
    return [patient["methods"][method].get(key) for patient in patients]


def names(patients: Sequence[Patient], *kinds: str) -> list[str]:
    """Methods of these kinds ('input', 'ours', one of `RIVALS`), in their order."""
    return [name for name, record in patients[0]["methods"].items() if record["kind"] in kinds]


def interval(values: Sequence[float | None]) -> tuple[float, float] | None:
    """95 % limits of the mean over patients, by bootstrap; None for fewer than three patients."""
    there = np.array([value for value in values if value is not None])
    if len(there) < FEWEST_PATIENTS:
        return None
    drawn = np.random.default_rng(0).choice(there, (RESAMPLES, len(there))).mean(1)
    low, high = bootstrap_limits(drawn, len(there))
    return float(low), float(high)


def _with_limits(values: Sequence[float | None], digits: int, sign: bool = False) -> str:
    """A mean over patients with its limits."""
    text, limits = _show(mean(values), digits, sign), interval(values)
    if limits is None:
        return text
    return f"{text} [{', '.join(_show(value, digits, sign) for value in limits)}]"


def gain(patient: Patient, ours: str, other: str, figure: str) -> float:
    """Mean of `figure` ('psnr', 'ssim') of `ours` less that of `other`, over the slices that both did."""
    mine, theirs = (patient["methods"][name][figure] for name in (ours, other))
    common = [z for z in mine if z in theirs]
    return sum(mine[z] - theirs[z] for z in common) / len(common)


def gain_over_best(patients: Sequence[Patient], ours: str, figure: str) -> tuple[float, str, int] | None:
    """Mean gain over the peer with the best mean, that peer, and how many patients `ours` is best in."""
    rivals = names(patients, *RIVALS)
    if not rivals:
        return None
    means = {rival: sum(gain(p, ours, rival, figure) for p in patients) / len(patients) for rival in rivals}
    best = min(means, key=lambda rival: means[rival])
    won = sum(all(gain(p, ours, rival, figure) > 0 for rival in rivals) for p in patients)
    return means[best], best, won


def overview(patients: Sequence[Patient]) -> Table:
    """All methods, means over patients."""
    rows = []
    for name, record in patients[0]["methods"].items():
        figures = {
            key: [mean(values.values()) for values in _of(patients, name, key)]
            for key in ("psnr", "ssim", "psnr_abdomen", "ssim_abdomen")
        }
        beats = gain_over_best(patients, name, "psnr") if record["kind"] == "ours" else None
        rows.append(
            (
                name,
                _with_limits(figures["psnr"], 2),
                _with_limits(figures["ssim"], 4),
                _show(beats and beats[0], 2, sign=True),
                _show(mean(figures["psnr_abdomen"]), 2),
                _show(mean(figures["ssim_abdomen"]), 4),
                str(sum(len(values) for values in _of(patients, name, "psnr"))),
            )
        )
    header = ("method", "PSNR dB", "SSIM", "over best peer", "PSNR -160…240", "SSIM -160…240", "slices")
    note = (
        "At ±1000 HU, and from -160 to 240 HU as low-dose papers have it; means of patients' means over "
        "slices. The gain over the best peer of any kind is that on the slices that both did."
    )
    return Table("Likeness to the reference", header, tuple(rows), note)


def gains(patients: Sequence[Patient]) -> Table:
    """How far the project's models, in one draw, are above every other method, by pairs of patients."""
    ours = _single(patients)
    rows = []
    for other in patients[0]["methods"]:
        cells = []
        for name in ours:
            if name == other:
                cells.append(NONE)
                continue
            found = [gain(patient, name, other, "psnr") for patient in patients]
            won = sum(value > 0 for value in found)
            cells.append(f"{_with_limits(found, 2, sign=True)}, {won} of {len(found)}")
        rows.append((other, *cells))
    note = (
        "PSNR (dB at ±1000 HU) of the model less that of the method in the row, on the slices that both did: "
        "mean over patients with its limits, and in how many patients it is above."
    )
    return Table("Gain over each method, dB", ("over", *ours), tuple(rows), note)


def texture(patients: Sequence[Patient]) -> Table:
    """Noise, its texture, edges and time."""
    rows = []
    for name in patients[0]["methods"]:
        share = [
            mean(s.get(kind) for s in _of(patients, name, "mtf50_share"))
            for kind in ("skin_air", "lung_soft")
        ]
        rows.append(
            (
                name,
                _show(mean(_of(patients, name, "noise_hu")), 1),
                _with_limits(_of(patients, name, "nps_distance"), 3),
                *(_show(value, 2) for value in share),
                _show(mean(_of(patients, name, "seconds")), 2),
                _show(mean(_of(patients, name, "seconds_per_512")), 2),
            )
        )
    truth = mean(_of(patients, INPUT, NOISE))
    rows.append(("reference", _show(truth, 1), "0", "1.00", "1.00", NONE, NONE))
    header = ("method", "noise HU", "NPS distance", "MTF50 skin", "MTF50 lung", "s/slice", "s/512² slice")
    note = (
        "Noise: SD in uniform soft tissue. NPS distance: half the sum of the absolute differences of its "
        "radial spectrum's shape from the reference's. MTF50: share of the reference's."
    )
    return Table("Noise, texture and edges", header, tuple(rows), note)


def share_of_texture(patient: Patient, name: str, base: str) -> tuple[float, float, float] | None:
    """The NPS distance of a method over that of `base`, and its 95 % limits by the jackknife over slices, of
    the ratio's logarithm. None where there is no spectrum, or too few slices."""
    mine, its = (patient["methods"][method] for method in (name, base))
    parts = [record.get("nps_distance_without") or {} for record in (mine, its)]
    common = sorted(parts[0].keys() & parts[1].keys())
    if not (mine.get("nps_distance") and its.get("nps_distance")) or len(common) < FEWEST_SLICES:
        return None
    logs = np.log([parts[0][z] / parts[1][z] for z in common])
    count = len(common)
    error = math.sqrt((count - 1) / count * float(((logs - logs.mean()) ** 2).sum()))
    reach = float(student_t.ppf(0.975, count - 1)) * error
    share = mine["nps_distance"] / its["nps_distance"]
    return share, share * math.exp(-reach), share * math.exp(reach)


def texture_shares(patients: Sequence[Patient], base: str) -> Table | None:
    """How much nearer than `base` the project's other models come to the reference's texture, by patient;
    None where none of them was measured so."""
    others = [name for name in names(patients, "ours") if name != base]
    rows = []
    for patient in patients:
        found = [share_of_texture(patient, name, base) for name in others]
        if any(found):
            cells = (NONE if one is None else "{:.2f} [{:.2f}, {:.2f}]".format(*one) for one in found)
            rows.append((patient["name"], *cells))
    if rows:
        whole = [[share_of_texture(patient, name, base) for patient in patients] for name in others]
        shares = [[None if one is None else one[0] for one in of_method] for of_method in whole]
        rows.append(("mean over patients", *(_with_limits(of_method, 2) for of_method in shares)))
    note = (
        f"NPS distance over that of {base} in the same squares, 95 % limits by the jackknife over slices "
        "(Student's t of the logarithm), of the mean by bootstrap over patients."
    )
    return (
        Table(f"NPS distance as a share of {base}'s", ("patient", *others), tuple(rows), note)
        if rows
        else None
    )


def coverage(patients: Sequence[Patient]) -> Table:
    """Reliability: how often the reference lies in the draws' intervals, and the error where they differ."""
    methods = [name for name, record in patients[0]["methods"].items() if "coverage" in record]
    levels = list(patients[0]["methods"][methods[0]]["coverage"]["levels"])
    rows = []
    for name in methods:
        for patient in patients:
            found = patient["methods"][name]["coverage"]
            fifths = [
                f"{part['error_hu']:.0f}/{part['spread_hu']:.0f}"
                for part in (found["fifths"][0], found["fifths"][-1])
            ]
            rows.append(
                (
                    f"{name}: {patient['name']}",
                    *(f"{found['levels'][level]:.3f}" for level in levels),
                    f"{found['factor_90']:.2f}",
                    *fifths,
                )
            )
    header = (
        "method: patient",
        *(f"{float(level):.0%}" for level in levels),
        "factor",
        "least fifth",
        "greatest",
    )
    note = (
        "Share of the patient's pixels whose reference lies within the interval of that level, with the "
        "registry's factor; 'factor': what would bring the 90 % interval to 90 %. Last columns: RMS error / "
        "RMS spread in HU in the fifth of the pixels with the least and the greatest spread."
    )
    return Table("Coverage of the draws' intervals", header, tuple(rows), note)


def by_patient(patients: Sequence[Patient]) -> Table:
    """PSNR and SSIM of each patient, whose name says body part, scanner and kernel."""
    methods = list(patients[0]["methods"])
    rows = tuple(
        (
            patient["name"],
            "{:.2f} × {:g}".format(patient["spacing_mm"][0], patient["spacing_mm"][2]),
            " / ".join(_show(patient["methods"][INPUT].get(key), 0) for key in ("noise_hu", NOISE)),
            *(
                f"{_show(mean(patient['methods'][m]['psnr'].values()), 2)} / "
                f"{_show(mean(patient['methods'][m]['ssim'].values()), 4)}"
                for m in methods
            ),
        )
        for patient in patients
    )
    header = ("patient", "pixel × slice mm", "noise in / reference HU", *methods)
    return Table("By patient: PSNR dB / SSIM", header, rows)


def settings(patients: Sequence[Patient]) -> Table:
    """Strengths that were found."""
    rivals = names(patients, "peer", "ceiling")
    rows = tuple((p["name"], *(p["methods"][m]["setting"] for m in rivals)) for p in patients)
    note = "In units of the noise SD of the input (Gaussian: pixels)."
    return Table("Strength of the filters", ("patient", *rivals), rows, note)


def tissues(patients: Sequence[Patient]) -> Table:
    """How far HU move, worst patient."""
    rows = []
    for name in patients[0]["methods"]:
        cells = []
        for tissue in BIAS_LIMITS:
            found = [bias.get(tissue, {}) for bias in _of(patients, name, "bias")]
            both = [_worst(values.get(key) for values in found) for key in ("to_input", "to_reference")]
            cells.append(" / ".join(_show(value, 1, sign=True) for value in both))
        rows.append((name, *cells))
    note = "In flat regions of the smoothed reference; of the patients the one that is furthest off."
    return Table(
        "Mean HU, worst patient: less input's / less reference's", ("method", *BIAS_LIMITS), tuple(rows), note
    )


def _single(patients: Sequence[Patient]) -> list[str]:
    """The project's models in one draw, which clean inputs were tried with."""
    return [name for name in names(patients, "ours") if "clean" in patients[0]["methods"][name]]


def own_tests(patients: Sequence[Patient]) -> Table:
    """Clean input and flicker, each patient and model."""
    rows = []
    for patient in patients:
        for name in _single(patients):
            record = patient["methods"][name]
            flicker = record["flicker"] or {}
            keys = ("before_HU", "after_HU", "reference_HU", "ratio", "added_HU")
            rows.append(
                (
                    f"{patient['name']}: {name}",
                    *(
                        f"{_show(record[k]['change_sd_hu'], 1)} / {_show(record[k]['noise_hu'], 1)}"
                        for k in CLEAN
                    ),
                    *(_show(flicker.get(key), 2) for key in keys),
                )
            )
    header = (
        "patient: model",
        "reference: change / noise",
        "quiet copy: change / noise",
        "flicker in",
        "out",
        "reference",
        "out/in",
        "added",
    )
    note = (
        "Change: SD of what enhancing an input that is clean already changes in flat soft tissue, beside its "
        "own noise and fine structure; quiet copy: the reference with 2 x 2 pixels and 3 slices averaged. "
        "Flicker: slice-to-slice jumps of blocks of 8 mm (HU); added: of whole slices, in what differs from "
        "the reference."
    )
    return Table("Clean input, and flicker along z (HU)", header, tuple(rows), note)


def verdicts(patients: Sequence[Patient]) -> list[dict[str, Any]]:
    """Each of the project's targets for each model: `value`, `limit` and 'PASS', 'MISS' or 'not measured'."""
    found = []
    for name in _single(patients):

        def add(target: str, value: float | None, shown: str, good: bool, name: str = name) -> None:
            verdict = "not measured" if value is None else "PASS" if good else "MISS"
            found.append(
                {"model": name, "target": target, "value": value, "shown": shown, "verdict": verdict}
            )

        for figure, unit, digits in (("psnr", " dB", 2), ("ssim", "", 4)):
            beats = gain_over_best(patients, name, figure)
            value, rival, won = beats if beats else (None, NONE, 0)
            lead = f"{_show(value, digits, sign=True)}{unit} over {rival}"
            shown = f"{lead}, best in {won} of {len(patients)} patients"
            add(f"{figure.upper()} above the best peer's", value, shown, value is not None and value > 0)
        for key, word in (("to_input", "input"), ("to_reference", "reference")):
            for tissue, limit in BIAS_LIMITS.items():
                worst = _worst(bias.get(tissue, {}).get(key) for bias in _of(patients, name, "bias"))
                target = f"mean HU of {tissue} within {limit:g} of the {word}'s"
                shown = _show(worst, 1, sign=True)
                if key == "to_reference":
                    before = _worst(bias.get(tissue, {}).get(key) for bias in _of(patients, INPUT, "bias"))
                    shown += f" (input itself {_show(before, 1, sign=True)})"
                add(target, worst, shown, worst is not None and abs(worst) < limit)
        for key, word in CLEAN.items():
            worst = _worst(record["change_sd_hu"] for record in _of(patients, name, key))
            target = f"{word} changes by < {CLEAN_LIMIT_HU:g} HU (SD, soft tissue)"
            add(target, worst, _show(worst, 1), worst is not None and worst < CLEAN_LIMIT_HU)
        slowest = _worst(_of(patients, name, "seconds_per_512"))
        good = slowest is not None and slowest <= SECONDS_LIMIT
        add(f"at most {SECONDS_LIMIT:g} s a 512² slice", slowest, _show(slowest, 2), good)
    return found


def verdict_table(found: Sequence[Mapping[str, Any]]) -> Table:
    """The targets as a table."""
    rows = tuple((f"{v['model']}: {v['target']}", v["shown"], v["verdict"]) for v in found)
    note = (
        "HU, clean input and speed: the worst patient counts. Speed as measured here, on the threads above."
    )
    return Table("Targets", ("model: target", "measured", "verdict"), rows, note)


def all_tables(patients: Sequence[Patient]) -> list[Table]:
    """Everything, in reading order."""
    tables = [overview(patients)]
    if _single(patients):
        tables.append(gains(patients))
    tables.append(texture(patients))
    for base in _single(patients)[:1]:
        shares = texture_shares(patients, base)
        tables += [shares] if shares else []
    tables.append(by_patient(patients))
    if any("coverage" in record for record in patients[0]["methods"].values()):
        tables.append(coverage(patients))
    if names(patients, "peer", "ceiling"):
        tables.append(settings(patients))
    tables.append(tissues(patients))
    if names(patients, "ours"):
        tables += [own_tests(patients), verdict_table(verdicts(patients))]
    return tables
