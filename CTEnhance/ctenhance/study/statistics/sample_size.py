"""How many cases does a study need? Planning formulas at the level `ALPHA`; each rounds up."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from scipy import stats

from ctenhance.runtime.errors import InputError
from ctenhance.runtime.words import counted
from ctenhance.study.statistics.estimate import ALPHA

MOST_CASES = 100_000


def cases_for_preference(share: float, readers: int = 1, agreement: float = 0.3, power: float = 0.8) -> int:
    """Return the cases for telling a share of preferences (or right answers) from one half.

    `agreement` is the correlation of two readers' answers to one case: r readers' answers count as
    r / (1 + (r - 1) agreement) independent ones. Normal approximation (Fleiss, Levin & Paik 2003, eq. 2.7).
    """
    _between(share, 0, 1, "the share")
    _planned(readers, power, agreement)
    if share == 0.5:
        raise InputError(
            "A share of 0.5 is no effect, which no number of cases can show; give another share."
        )
    reach = stats.norm.ppf(1 - ALPHA / 2) * 0.5 + stats.norm.ppf(power) * math.sqrt(share * (1 - share))
    return _cases((reach / (share - 0.5)) ** 2 * (1 + (readers - 1) * agreement) / readers)


def cases_for_equivalence(margin: float, readers: int = 1, agreement: float = 0.3, power: float = 0.8) -> int:
    """Return the cases for showing that a true share of one half lies within the margin, by TOST.

    Chow, Shao & Wang (2008), section 4.1: (z(1 - alpha) + z(1 - beta / 2))^2 p (1 - p) / margin^2.
    """
    _between(margin, 0, 0.5, "the margin")
    _planned(readers, power, agreement)
    reach = stats.norm.ppf(1 - ALPHA) + stats.norm.ppf(1 - (1 - power) / 2)
    return _cases((reach / margin) ** 2 * 0.25 * (1 + (readers - 1) * agreement) / readers)


def cases_for_grades(difference: float, spread: float, power: float = 0.8) -> int:
    """Return the cases for Wilcoxon's signed-rank test of a mean difference with that SD over cases.

    The paired t test's number by the noncentral t distribution, over 3 / pi, the asymptotic relative
    efficiency of the signed ranks under normality (Lehmann 1975).
    """
    _planned(1, power)
    if not (0 < spread < math.inf and 0 < abs(difference) < math.inf):
        raise InputError("The planned difference must not be 0 and its SD must be above 0.")
    effect = abs(difference) / spread

    def reached(cases: int) -> float:
        limit = stats.t.ppf(1 - ALPHA / 2, cases - 1)
        return float(stats.nct.sf(limit, cases - 1, effect * math.sqrt(cases)))

    return _cases(_least(reached, power) * math.pi / 3)


@dataclass(frozen=True)
class Pilot:
    """How figures of merit scatter, from the multi-reader analysis of a pilot or published study.

    variance, cov1, cov2, cov3   Obuchowski & Rockette's error variance and covariances, with so many `cases`
    interaction                  the variance component of modality x reader
    """

    variance: float
    cov1: float
    cov2: float
    cov3: float
    interaction: float
    cases: int

    def __post_init__(self) -> None:
        if self.cases < 2:
            raise InputError(f"A pilot study has at least 2 cases, not {self.cases}.")
        if not (self.variance > 0 and self.interaction >= 0 and self.variance >= max(self.cov1, self.cov2)):
            raise InputError(
                "The pilot's error variance must be above 0 and no smaller than Cov1 and Cov2, and the "
                "variance of arm x reader must not be negative."
            )


def mrmc_power(difference: float, readers: int, cases: int, pilot: Pilot) -> float:
    """Return the power of the comparison of two arms with readers and cases random.

    The pilot's error variance and covariances shrink in inverse proportion to the cases, of which the same
    share is diseased. Hillis, Obuchowski & Berbaum (2011), "Power estimation for multireader ROC methods: an
    updated and unified approach", Academic Radiology 18, 129-142.
    """
    if readers < 2 or cases < 2:
        raise InputError("Planning needs at least 2 readers and 2 cases.")
    scale = pilot.cases / cases
    shared = scale * max(pilot.cov2 - pilot.cov3, 0.0)
    alone = pilot.interaction + max(scale * (pilot.variance - pilot.cov1) - shared, 0.0)
    both = alone + readers * shared
    freedom = both**2 / (alone**2 / (readers - 1)) if alone > 0 else 1e6
    centre = readers * difference**2 / (2 * both) if both > 0 else math.inf
    if centre == 0:  # the noncentral law of scipy begins above
        return ALPHA
    if centre > 1e4:  # it ends there, too
        return 1.0
    return float(stats.ncf.sf(stats.f.ppf(1 - ALPHA, 1, freedom), 1, freedom, centre))


def cases_for_mrmc(difference: float, readers: int, pilot: Pilot, power: float = 0.8) -> int:
    """Return the cases, normal and diseased ones together, for telling a difference of figures of merit.

    See `mrmc_power`. Raises InputError also where no number of cases is enough with so few readers.
    """
    _planned(readers, power)
    _between(abs(difference), 0, 1, "a difference of areas (either sign)")
    reached = mrmc_power(difference, readers, MOST_CASES, pilot)
    if reached < power:
        raise InputError(
            f"With {counted(readers, 'reader')} no number of cases gives a power of {power:g} (at most "
            f"{reached:.2f}), since readers differ in what the arms do for them; plan for more readers."
        )
    return _least(lambda cases: mrmc_power(difference, readers, cases, pilot), power)


def _least(reached: Callable[[int], float], power: float) -> int:
    """Return the least number from 2 on that reaches the power; `reached` grows with it."""
    low, high = 2, 2
    while reached(high) < power:
        low, high = high, 2 * high
        if high > MOST_CASES:
            raise InputError(f"This effect needs more than {MOST_CASES} cases; plan for a larger one.")
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) >= power else (middle + 1, high)
    return high


def _cases(number: float) -> int:
    cases = math.ceil(number - 1e-9)
    if cases > MOST_CASES:
        raise InputError(f"This effect needs more than {MOST_CASES} cases; plan for a larger one.")
    return max(cases, 2)


def _planned(readers: int, power: float, agreement: float = 0.0) -> None:
    _between(power, 0, 1, "the power")
    if not 0 <= agreement <= 1:
        raise InputError(f"The agreement of readers must lie between 0 and 1, but it is {agreement:g}.")
    if readers < 1:
        raise InputError(f"A study needs at least 1 reader, not {readers}.")


def _between(value: float, low: float, high: float, what: str) -> None:
    if not low < value < high:
        raise InputError(f"Planning needs {what} between {low:g} and {high:g}, but it is {value:g}.")
