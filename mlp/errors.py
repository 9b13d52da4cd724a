"""Every error that this package raises on purpose, and the sentence that names a misspelt word."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from operator import index
from typing import TypeVar

T = TypeVar("T")


class MLPError(Exception):
    """Base of all errors raised on purpose; they say what was wrong, where, and what to do."""


class InvalidInput(MLPError, ValueError):
    """Data that cannot be used: wrong shape, not finite, labels that do not fit."""


class InvalidSetting(MLPError, ValueError):
    """An option that cannot be used: an unknown name, a size that is not positive."""


class BackendUnavailable(MLPError, RuntimeError):
    """A device or precision was asked for that cannot be had here; the message says why."""


class ModelFileError(MLPError, ValueError):
    """A file that is not a readable model of this package."""


class TrainingDiverged(MLPError, ArithmeticError):
    """The training loss or the weights became infinite or not a number, or all gradients did."""


class DeviceOutOfMemory(MLPError, MemoryError):
    """A device has no room for an array.

    Attributes:
        asked, free: bytes that were asked for, and that were free.
    """

    def __init__(self, message: str, asked: int = 0, free: int = 0) -> None:
        super().__init__(message)
        self.asked, self.free = asked, free


class DeviceFault(MLPError, RuntimeError):
    """Work on a device failed, or cannot be compiled for it; may concern work asked for earlier."""


def unknown_name(kind: str, name: object, valid: Iterable[str]) -> InvalidSetting:
    """The error for a name that is in no table, with the nearest valid one suggested.

    >>> print(unknown_name("activation", "rleu", ["relu", "tanh"]))
    unknown activation 'rleu'; did you mean 'relu'? Valid: relu, tanh
    """
    names = list(valid)
    by_lower = {valid_name.lower(): valid_name for valid_name in names}
    near = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.7)
    hint = f"; did you mean '{by_lower[near[0]]}'?" if near else "."
    return InvalidSetting(f"unknown {kind} {str(name)!r}{hint} Valid: {', '.join(names)}")


def as_int(value: object, otherwise: int) -> int:
    """`value` as an int if its type is one of whole numbers (not bool), else `otherwise`."""
    try:
        return otherwise if isinstance(value, bool) else index(value)  # type: ignore[arg-type]
    except TypeError:
        return otherwise


def lookup(kind: str, name: str, table: Mapping[str, T]) -> T:
    """The table's entry for `name`; raises InvalidSetting, suggesting the nearest name."""
    if not isinstance(name, str) or name not in table:
        raise unknown_name(kind, name, table)
    return table[name]


def require_positive_int(name: str, value: object) -> int:
    """`value` as an int, or an error that names the setting."""
    number = as_int(value, 0)
    if number < 1:
        raise InvalidSetting(f"{name} must be a positive whole number, not {value!r}")
    return number


def require_in(
    name: str, value: float, low: float, high: float, *, open_high: bool = False
) -> float:
    """`value` as a float in [low, high], or [low, high) with `open_high`; else InvalidSetting."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not (low <= number < high if open_high else low <= number <= high):
        closing = ")" if open_high or high == float("inf") else "]"
        raise InvalidSetting(f"{name} must be in [{low:g}, {high:g}{closing}, not {value!r}")
    return number
