"""Standardisation, learned on the training rows and kept with the network as plain numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlp.backends.protocol import HostArray


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
    def fit(cls, X: HostArray) -> Standardizer:
        """Learns mean and scale from rows X (N, I)."""
        X = X.astype(np.float64, copy=False)
        mean, scale = X.mean(axis=0), X.std(axis=0)
        # A constant column's deviation is rounding noise of its size, not always exactly 0.
        scale[scale <= 10 * np.finfo(np.float64).eps * np.abs(mean)] = 1
        return cls(mean, scale)

    def transform(self, X: HostArray) -> HostArray:
        """Standardised rows (N, I), float64."""
        result: HostArray = (X - self.mean) / self.scale
        return result
