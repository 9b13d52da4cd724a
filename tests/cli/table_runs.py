"""A table of every kind of column, and the options of a run that takes no time."""

from __future__ import annotations

import numpy as np
import pandas as pd

NUMPY = ("--device", "numpy")  # nothing here is about kernels, which would have to be compiled
QUICK = ("--epochs", 2, *NUMPY, "--hidden", "8", "--quiet")


def mixed(rows: int = 60) -> pd.DataFrame:
    """Numbers, text, booleans and dates, some missing, and a class that follows from them."""
    rng = np.random.default_rng(0)
    age, town = rng.normal(40, 10, rows).round(1), rng.choice(["Oslo", "Rome"], rows)
    frame = pd.DataFrame(
        {
            "id": [f"u{i}" for i in range(rows)],
            "age": np.where(rng.random(rows) < 0.1, np.nan, age),
            "town": np.where(rng.random(rows) < 0.1, None, town),
            "member": rng.random(rows) < 0.4,
            "when": pd.date_range("2020", periods=rows, unit="us"),
        }
    )
    frame["buys"] = np.where((age > 40) ^ frame["member"], "yes", "no")
    return frame
