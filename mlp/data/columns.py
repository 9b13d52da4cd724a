"""One column of a table as a network takes it: how its values become features, as plain data."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any, get_args

import numpy as np

from mlp.backends.protocol import HostArray
from mlp.data.arrow import (
    Kind,
    Values,
    decoded,
    is_number,
    kind_of,
    numbers,
    require_pyarrow,
    shown,
    texts,
)
from mlp.errors import InvalidInput


@dataclass(frozen=True)
class Column:
    """How a column of a table becomes one or more features.

    A number x becomes (x - mean) / scale, with `fill` for x where it is missing. A boolean becomes
    0 or 1, with `fill` where it is missing. A category becomes one feature per category, 1 for its
    own and 0 for the others; one that is not in `categories` is 0 in all. Where `missing`, one more
    feature follows, which is 1 where the value is missing and else 0.

    Attributes:
        name: of the column in its table.
        kind: "number", "boolean" or "category".
        fill: what stands for a missing number or boolean: the mean over the training rows.
        mean, scale: of a number; 0 and 1 if it is taken as it is.
        missing: whether values were missing in training.
        categories: the distinct texts of a category, sorted; integers are read as their digits.
    """

    name: str
    kind: Kind
    fill: float = 0.0
    mean: float = 0.0
    scale: float = 1.0
    missing: bool = False
    categories: tuple[str, ...] = ()

    @property
    def features(self) -> tuple[str, ...]:
        """A name for each feature: "age", "age is missing", "town = Oslo"."""
        own = [f"{self.name} = {category}" for category in self.categories]
        if self.kind != "category":
            own = [self.name]
        return (*own, f"{self.name} is missing") if self.missing else tuple(own)

    @property
    def width(self) -> int:
        """How many features there are."""
        return (len(self.categories) if self.kind == "category" else 1) + self.missing

    def encode(self, values: Values | HostArray, out: HostArray) -> int:
        """Writes the features of some rows.

        Args:
            values: of the column, (N,): an Arrow array, or a NumPy array of numbers with NaN where
                one is missing.
            out: (N, width), any float dtype; overwritten.

        Returns:
            How many values are of a kind that training did not see: a category that is not in
            `categories`, or a missing value where none was missing.

        Raises:
            InvalidInput: values of another kind, infinite, or of a type that is not read.
        """
        if self.kind == "category":
            unseen, absent = self._encode_category(values, out)
        else:
            unseen, absent = 0, self._encode_number(values, out)
        if self.missing:
            out[:, -1] = absent
            return unseen
        return unseen + int(np.count_nonzero(absent))

    def _encode_number(self, values: Values | HostArray, out: HostArray) -> HostArray:
        """Writes the first feature; returns which values are missing, (N,) bool."""
        x = self._numbers(values)
        absent: HostArray = np.isnan(x)
        if np.isinf(x).any():
            row = int(np.isinf(x).argmax())
            raise InvalidInput(f"column '{self.name}' holds {x[row]} at row {row}, not a number")
        if self.kind == "boolean" and not ((x == 0) | (x == 1) | absent).all():
            row = int((~((x == 0) | (x == 1) | absent)).argmax())
            raise InvalidInput(
                f"column '{self.name}' holds {x[row]:g} at row {row}, but yes or no (1 or 0) in "
                "training"
            )
        if absent.any():
            x = np.where(absent, self.fill, x)
        # A number far outside the training rows' range may leave that of `out`: the caller checks.
        with np.errstate(over="ignore"):
            out[:, 0] = x if (self.mean, self.scale) == (0, 1) else (x - self.mean) / self.scale
        return absent

    def _numbers(self, values: Values | HostArray) -> HostArray:
        """Float64 (N,), NaN where missing."""
        if isinstance(values, np.ndarray):
            return values.astype(np.float64, copy=False)
        if kind_of(self.name, values.type) != "category":
            return numbers(values)
        known = texts(values).drop_null()
        if len(known):
            raise InvalidInput(
                f"column '{self.name}' holds text ({known[0].as_py()[:40]!r}), but {self.kind}s in "
                "training"
            )
        return np.full(len(values), np.nan)

    def _encode_category(self, values: Values, out: HostArray) -> tuple[int, HostArray]:
        """Writes a feature per category; returns how many are unseen, and which are missing."""
        pyarrow = require_pyarrow()
        from pyarrow import compute  # pyarrow itself does not load it; pandas happens to

        plain = decoded(values)
        if pyarrow.types.is_floating(plain.type) or pyarrow.types.is_decimal(plain.type):
            raise InvalidInput(
                f"column '{self.name}' holds numbers ({plain.type}), but categories in training; "
                "turn it into text"
            )
        kind_of(self.name, plain.type)
        text = texts(values)
        known = pyarrow.array(self.categories, type=text.type)
        place = compute.index_in(text, value_set=known)
        codes = np.asarray(place.fill_null(-1).to_numpy(zero_copy_only=False), dtype=np.int64)
        absent = np.asarray(text.is_null().to_numpy(zero_copy_only=False), dtype=bool)
        seen = codes >= 0
        out[...] = 0
        out[np.flatnonzero(seen), codes[seen]] = 1
        return int(np.count_nonzero(~seen & ~absent)), absent

    # --- files ----------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Plain data that JSON holds exactly; only what the kind has."""
        entry = asdict(self)
        entry["categories"] = list(self.categories)
        unused = {"number": ("categories",), "boolean": ("mean", "scale", "categories")}
        for name in unused.get(self.kind, ("fill", "mean", "scale")):
            del entry[name]
        return entry

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> Column:
        """What `to_json` returned, checked.

        Raises:
            InvalidInput: it is not that.
        """
        column = cls(**{**entry, "categories": tuple(entry.get("categories", ()))})
        numbers_given = (column.fill, column.mean, column.scale)
        fits = (
            isinstance(column.name, str)
            and column.kind in get_args(Kind)
            and all(type(n) in (int, float) and math.isfinite(n) for n in numbers_given)
            and column.scale > 0
            and isinstance(column.missing, bool)
            and isinstance(entry.get("categories", []), list)
            and all(isinstance(category, str) for category in column.categories)
            and len(set(column.categories)) == len(column.categories)
            and column.to_json().keys() == entry.keys()
        )
        if not fits:
            raise InvalidInput(f"the column {column.name!r} is not described as it should be")
        return column


def require_no_numbers(name: str, categories: Collection[str]) -> None:
    """Raises InvalidInput where most texts of a column are numbers that were not read as such.

    One unit, comma or word for a missing value makes text of all numbers of a CSV column.
    """
    odd = sorted(text for text in categories if not is_number(text))
    if not odd:
        raise InvalidInput(
            f"column '{name}' holds numbers as text; store them as numbers (in a CSV file, one "
            "other text makes text of the whole column)"
        )
    if 2 * len(odd) < len(categories):
        raise InvalidInput(
            f"column '{name}' holds numbers, but also text, such as '{shown(odd[0])}'; make "
            "numbers of it or leave it empty"
        )
    commas = [text for text in odd if is_number(text.replace(",", ""))]
    if 2 * len(commas) > len(categories):
        raise InvalidInput(
            f"column '{name}' holds numbers with commas, such as '{shown(commas[0])}'; write them "
            "with a decimal point, and nothing between thousands"
        )
