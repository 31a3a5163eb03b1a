"""What counts and times of two sides prove, and how surely: no more than the tests of a gradual roll-out need.

Errors: Fisher's exact test (R. A. Fisher, 1935), one-sided, says how likely so many errors fell on the new side by
chance; the upper bound of the difference of two rates is Newcombe's hybrid score interval (R. G. Newcombe, Statistics
in Medicine 17, 1998, method 10; E. B. Wilson, JASA 22, 1927), for the opposite question: whether it is safe to go on.

Times: a quantile lies between two order statistics whose ranks a binomial distribution gives, whatever the distribution
of the times is (W. J. Conover, Practical Nonparametric Statistics, 3rd edition, section 3.2). No bootstrap, no normal
approximation; ties make the bounds wider, never narrower.

Looks: to look again and again until something is found finds something always. Each look k of a test spends
``alpha * 6 / (pi * k)**2``; over all k this sums up to ``alpha`` (Bonferroni; the spending of alpha over looks is that
of K. K. G. Lan and D. L. DeMets, Biometrika 70, 1983).
"""

from __future__ import annotations

import functools
import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from erlmcp.core import Histogram

NEGLIGIBLE: Final = 1e-15
TAIL_SIGMAS: Final = 12.0


def spent(alpha: float, look: int) -> float:
    """What the look of this number (from 1) may spend of ``alpha``."""
    return alpha * 6 / (math.pi * look) ** 2


def chance_of_errors(new_errors: int, new_count: int, old_errors: int, old_count: int) -> float:
    """The probability that at least ``new_errors`` of all errors fall on the new side by chance; 1.0 where there are no
    more than its share."""
    errors, count = new_errors + old_errors, new_count + old_count
    if new_errors * count <= errors * new_count:
        return 1.0
    term = math.exp(
        _log_choose(new_count, new_errors) + _log_choose(old_count, old_errors) - _log_choose(count, errors)
    )
    total = 0.0
    for hit in range(new_errors, min(errors, new_count) + 1):
        total += term
        if term < total * NEGLIGIBLE:
            break
        term *= (new_count - hit) * (errors - hit) / ((hit + 1) * (old_count - errors + hit + 1))
    return min(1.0, total)


def _log_choose(count: int, hits: int) -> float:
    return math.lgamma(count + 1) - math.lgamma(hits + 1) - math.lgamma(count - hits + 1)


def difference_upper(new_errors: int, new_count: int, old_errors: int, old_count: int, alpha: float) -> float:
    """The rate of errors of the new side is above that of the old one by no more than this, but for a chance of
    ``alpha``."""
    new, old = new_errors / new_count, old_errors / old_count
    upper = _wilson(new, new_count, alpha)[1]
    lower = _wilson(old, old_count, alpha)[0]
    return new - old + math.hypot(upper - new, old - lower)


def _wilson(rate: float, count: int, alpha: float) -> tuple[float, float]:
    z = _z(alpha)
    middle = rate + z * z / (2 * count)
    half = z * math.sqrt(rate * (1 - rate) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


@functools.lru_cache(maxsize=256)
def _z(alpha: float) -> float:
    return NormalDist().inv_cdf(1 - alpha)


@functools.lru_cache(maxsize=1024)
def ranks(count: int, quantile: float, alpha: float) -> tuple[int, int]:
    """The ranks, from 1, of the order statistics below and above which the quantile lies with a chance of at most
    ``alpha`` each; 0 and ``count + 1`` where so few values allow no bound."""
    return _lower_rank(count, quantile, alpha), count + 1 - _lower_rank(count, 1 - quantile, alpha)


def _lower_rank(count: int, quantile: float, alpha: float) -> int:
    """The largest rank whose order statistic is above the quantile with a chance of at most ``alpha``: as many or more
    of the values are below it as a binomial distribution nearly always has."""
    spread = math.sqrt(count * quantile * (1 - quantile))
    hits = max(0, int(count * quantile - TAIL_SIGMAS * spread))
    term = math.exp(_log_choose(count, hits) + hits * math.log(quantile) + (count - hits) * math.log1p(-quantile))
    total = 0.0
    odds = quantile / (1 - quantile)
    while hits < count:
        total += term
        if total > alpha:
            return hits
        term *= (count - hits) / (hits + 1) * odds
        hits += 1
    return hits


def bounds(times: Histogram, quantile: float, alpha: float) -> tuple[float, float]:
    """Between what the quantile of the recorded times lies, but for a chance of ``alpha`` on each side; 0.0 and
    infinity where there are too few."""
    count = times.count
    if count == 0:
        return 0.0, math.inf
    low, high = ranks(count, quantile, alpha)
    return (
        0.0 if low < 1 else times.percentile(100 * (low - 0.5) / count),
        math.inf if high > count else times.percentile(100 * (high - 0.5) / count),
    )
