"""Mean and variance of numbers that come in parts, in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlp.backends.protocol import HostArray

SMALL, LARGE = 2.0**-600, 2.0**600


@dataclass
class Moments:
    """Count, mean and sum of squared distances from the mean, of all numbers so far.

    Parts are joined by T. F. Chan, G. H. Golub and R. J. LeVeque, "Updating Formulae and a Pairwise
    Algorithm for Computing Sample Variances" (1979): with d the difference of the parts' means,
    M2 = M2_a + M2_b + d² n_a n_b / (n_a + n_b).

    Attributes:
        count: numbers so far.
        mean, m2: in units of `unit` and its square.
        unit: 1, or a power of two where squares of the numbers would leave the range of float64.
    """

    count: int = 0
    mean: float = 0.0
    m2: float = 0.0
    unit: float = SMALL

    def update(self, x: HostArray) -> None:
        """Takes in finite numbers (n,) float64."""
        if not len(x):
            return
        unit = max(self.unit, _unit(float(np.abs(x).max())))
        if unit != self.unit:
            self._change_unit(unit)
        scaled = x if unit == 1 else x / unit
        n, mean = len(x), float(scaled.mean())
        m2 = float(((scaled - mean) ** 2).sum())
        total = self.count + n
        difference = mean - self.mean
        self.m2 += m2 + difference**2 * (self.count / total) * n
        self.mean += difference * (n / total)
        self.count = total

    def _change_unit(self, unit: float) -> None:
        ratio = self.unit / unit
        # The ratio's square by itself would be 0 in float64.
        self.mean, self.m2, self.unit = self.mean * ratio, self.m2 * ratio * ratio, unit

    @property
    def average(self) -> float:
        return self.mean * self.unit

    @property
    def deviation(self) -> float:
        """The standard deviation (divided by the count); 1 where the numbers do not vary.

        That of equal numbers is rounding noise of their size, not always exactly 0.
        """
        found = (self.m2 / self.count) ** 0.5 * self.unit if self.count else 0.0
        return found if found > 10 * np.finfo(np.float64).eps * abs(self.average) else 1.0


def _unit(largest: float) -> float:
    """1 for numbers whose squares can be summed in float64, else what brings them near such."""
    return LARGE if largest >= 1e100 else SMALL if largest <= 1e-100 else 1.0
