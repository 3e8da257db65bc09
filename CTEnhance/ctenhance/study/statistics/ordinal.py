"""A proportional-odds model of grades by generalised estimating equations, clustered by case."""

from __future__ import annotations

import math
import warnings

import numpy as np
from scipy import stats

from ctenhance.study.statistics.estimate import ALPHA, Estimate, unknown

_FEWEST = 2  # grades, and degrees of freedom
_ROUNDING = 1e-6  # of a standard error on the scale of log odds, which the fit ends at
_NOT_FITTED = (
    "the model (GEE) cannot be fitted to these grades: the arms, or one reader's grades, are wholly apart or "
    "without spread"
)


def odds_ratio(first: np.ndarray, second: np.ndarray) -> tuple[Estimate, np.ndarray]:
    """Return the odds of a higher grade in the second arm relative to the first, of grades `[reader, case]`,
    and which readers [bool] they rest on.

    Of each reader the cases that this reader graded in both arms. A reader with few cases may keep the model
    from being fitted (one grade in both arms tells nothing of this reader's own level): then those who have
    fewer cases than others are left out, the fewest first.
    """
    both = np.isfinite(first) & np.isfinite(second)
    count = both.sum(axis=1)
    used = count > 0
    while True:
        found = _odds(*(np.where(both, one, math.nan)[used] for one in (first, second)))
        fewer = used & (count < count.max(initial=0))
        if found.value is not None or not fewer.any():
            return found, used
        used = used & (count > count[fewer].min())


def _odds(first: np.ndarray, second: np.ndarray) -> Estimate:
    """Fit the odds.

    Cumulative logit model with an effect for the arm and one for each reader (Lipsitz, Kim & Zhao 1994),
    working independence, robust covariance clustered by case; statsmodels' OrdinalGEE. Judged by t with C - p
    degrees of freedom for C cases and p parameters, since with few cases the robust covariance is too small
    (Mancl & DeRouen 2001). Unknown when a grade or an arm has no spread or the fit does not converge.
    """
    from statsmodels.genmod.cov_struct import Independence
    from statsmodels.genmod.generalized_estimating_equations import OrdinalGEE

    readers, cases = first.shape
    grade = np.concatenate([first.ravel(), second.ravel()])
    arm = np.repeat([0.0, 1.0], first.size)
    reader = np.tile(np.repeat(np.arange(readers), cases), 2)
    case = np.tile(np.arange(cases), 2 * readers)
    dummies = [(reader == number).astype(float) for number in range(1, readers)]
    known = np.isfinite(grade)
    design = np.stack([arm, *dummies], axis=1)[known]
    grade = np.unique(grade[known], return_inverse=True)[1].astype(float)
    levels = len(np.unique(grade))
    parameters = levels - 1 + design.shape[1]
    freedom = len(np.unique(case[known])) - parameters
    if not known.any():
        return unknown("no reader has graded a case in both arms")
    if levels < _FEWEST:
        return unknown("all grades are one and the same")
    if freedom < _FEWEST:
        return unknown(
            f"too few cases ({freedom + parameters}) for the model's {parameters} parameters (thresholds of "
            f"grades, arm, readers): it takes {parameters + _FEWEST}"
        )
    order = np.argsort(case[known], kind="stable")
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            fitted = OrdinalGEE(
                grade[order], design[order], case[known][order], cov_struct=Independence()
            ).fit()
            place = levels - 1  # after the thresholds
            effect, error = (float(np.asarray(one)[place]) for one in (fitted.params, fitted.bse))
    except (Warning, ValueError, ArithmeticError, np.linalg.LinAlgError):
        return unknown(_NOT_FITTED)
    # statsmodels models the odds of exceeding each threshold.
    reach = stats.t.ppf(1 - ALPHA / 2, freedom) * error
    if not (math.isfinite(effect) and math.isfinite(error) and error > 0 and abs(effect) < 20):
        return unknown(_NOT_FITTED)
    if error < _ROUNDING:
        why = "nothing shows how sure this is: every case tells the same, so the model's robust variance is 0"
        return Estimate.of(math.exp(effect), why=why)
    p = 2 * stats.t.sf(abs(effect) / error, freedom)
    return Estimate.of(math.exp(effect), math.exp(effect - reach), math.exp(min(effect + reach, 700)), p)
