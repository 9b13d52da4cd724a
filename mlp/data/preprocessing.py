"""Standardisation, learned on the training rows and kept with the network as plain numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mlp.backends.protocol import HostArray
from mlp.data.arrays import as_rows


@dataclass(frozen=True)
class Standardizer:
    """x -> (x - mean) / scale per feature; a feature that does not vary is only centred.

    Attributes:
        mean, scale: (I,) float64; scale is the standard deviation over the rows it was fitted on
            (divided by N, as in scikit-learn's StandardScaler), or 1 where that is 0.
    """

    mean: HostArray
    scale: HostArray

    @classmethod
    def fit(cls, X: Any) -> Standardizer:
        """Learns mean and scale from rows X (N, I).

        Raises:
            InvalidInput: X is empty, ragged or not finite.
        """
        rows = as_rows(X)
        size = np.maximum(rows.max(axis=0), -rows.min(axis=0).astype(np.float64))
        # Numbers whose squares leave the range of float64 are brought to the size of 1 for a while.
        unit = np.where((size > 1e100) | ((size > 0) & (size < 1e-100)), size, 1.0)
        if (unit != 1).any():
            rows = rows / unit
        mean = rows.mean(axis=0, dtype=np.float64) * unit
        scale = rows.std(axis=0, dtype=np.float64) * unit
        # A constant column's deviation is rounding noise of its size, not always exactly 0.
        scale[scale <= 10 * np.finfo(np.float64).eps * np.abs(mean)] = 1
        return cls(mean, scale)

    def transform(self, X: HostArray) -> HostArray:
        """Standardised rows (N, I), float64."""
        result: HostArray = (X - self.mean) / self.scale
        return result

    def inverse(self, X: HostArray) -> HostArray:
        """The rows (N, I), float64, that `transform` would make X of."""
        result: HostArray = X.astype(np.float64) * self.scale + self.mean
        return result
