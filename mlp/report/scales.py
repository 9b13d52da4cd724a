"""Axes: round ticks, positions in a picture, numbers as short text, curves of fewer points."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

ROUND = (1.0, 2.0, 2.5, 5.0)  # times a power of ten
# From this ratio of the largest to the smallest positive value on, a scale is logarithmic.
LOGARITHMIC_FROM = 50.0
SAME = 1e-9  # relative difference of values that are taken for one
LARGEST = 1e300  # beyond, differences overflow; such values lie at the end of a scale
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Scale:
    """From values to positions along an axis.

    Attributes:
        low, high: the values at the ends, low < high; above 0 where `logarithmic`.
        ticks: values to mark, within them.
        labels: their texts.
        start, end: positions of low and high in the picture.
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    labels: tuple[str, ...]
    start: float
    end: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """The position of a value; values outside lie at the nearer end."""
        if self.logarithmic:
            tiny = self.low * 1e-9
            share = math.log(max(value, tiny) / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)


def linear(
    low: float, high: float, start: float, end: float, most: int = 6, *, whole: bool = False
) -> Scale:
    """A scale over [low, high] with at most `most` ticks, at round numbers.

    It is rounded outwards to ticks; `whole`: it is not, and ticks are whole numbers.
    """
    size = max(abs(low), abs(high))
    if high - low <= max(SAME * size, 1 / LARGEST):
        pad = size / 2 if size > 1 / LARGEST else 1.0
        if whole:
            return Scale(low - 1, high + 1, (low,), (short(low),), start, end)
        low, high = low - pad, high + pad
    for step in _steps(high - low, most, whole=whole):
        # A bound that is a multiple but for rounding counts as one.
        first, last = low / step, high / step
        first = math.ceil(first - 1e-9) if whole else math.floor(first + 1e-9)
        last = math.floor(last + 1e-9) if whole else math.ceil(last - 1e-9)
        if last - first < most:
            break
    ticks = [step * number for number in range(int(first), int(last) + 1)]
    low, high = (low, high) if whole else (ticks[0], ticks[-1])
    # As many digits as neighbouring ticks need to differ.
    digits = max(4, math.ceil(math.log10(max(size, step) / step)) + 2)
    labels = tuple(short(tick, digits) for tick in ticks)
    return Scale(low, high, tuple(ticks), labels, start, end)


def _steps(width: float, most: int, *, whole: bool) -> Iterator[float]:
    """Round steps, rising, from one that is too small for `most` ticks over this width."""
    exponent = math.floor(math.log10(width / most)) - 1
    for power in itertools.count(max(exponent, 0) if whole else exponent):
        for factor in ROUND:
            if not (whole and factor == 2.5 and power == 0):
                yield factor * 10.0**power


def logarithmic(low: float, high: float, start: float, end: float, most: int = 6) -> Scale:
    """A scale over [low, high], both above 0, rounded outwards to 1, 2 or 5 times a power of ten.

    Ticks are at all of these where they are few, else at powers of ten.
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    fine = [factor * 10.0**power for power in range(first, last + 1) for factor in (1, 2, 5)]
    low = max((tick for tick in fine if tick <= low * (1 + 1e-9)), default=low)
    high = min((tick for tick in fine if tick >= high * (1 - 1e-9)), default=high)
    ticks = [tick for tick in fine if low <= tick <= high]
    if len(ticks) > most + 1:
        ticks = [tick for tick in ticks if power_of_ten(tick)]
        ticks = ticks[:: -(-len(ticks) // most)]
    return Scale(low, high, tuple(ticks), tuple(map(power, ticks)), start, end, logarithmic=True)


def power_of_ten(value: float) -> bool:
    exponent = math.log10(value)
    return abs(exponent - round(exponent)) < 1e-9


def fitting(values: Sequence[float], start: float, end: float, most: int = 6) -> Scale:
    """A scale over the finite values: logarithmic where all are positive and far apart."""
    finite = [value for value in values if abs(value) < LARGEST] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if low > 0 and high / low > LOGARITHMIC_FROM:
        return logarithmic(low, high, start, end, most)
    if 0 < low < high / 2:  # nearly at 0: show how far it is
        low = 0.0
    return linear(low, high, start, end, most)


def short(value: float, digits: int = 4) -> str:
    """A number in few characters: 0.25, 12.5k, 3M, 1.2e-05, – for none."""
    if not math.isfinite(value):
        return "–" if math.isnan(value) else "∞" if value > 0 else "−∞"
    size = abs(value)
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if limit <= size < 1e12:
            return f"{value / (1e3 if unit == 'k' else limit):.{digits}g}{unit}".replace("-", "−")
    if size >= 1e12 or 0 < size < 1e-4:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{mantissa}e{int(exponent)}".replace("-", "−")
    return f"{value:.{digits}g}".replace("-", "−")


def power(value: float) -> str:
    """A tick of a logarithmic scale: 10⁻³ where it is far from 1, else as `short` does."""
    exponent = round(math.log10(value))
    if abs(exponent) > 3 and power_of_ten(value):
        return "10" + str(exponent).translate(SUPERSCRIPTS)
    return short(value)


def thinned(
    x: Sequence[float], y: Sequence[float], most: int = 400
) -> tuple[list[float], list[float]]:
    """A curve of about `most` points at most that looks the same: the extremes of each stretch.

    A stretch without a finite value stays a gap (NaN); one with some loses only those that are not.
    """
    if len(x) <= most:
        return list(x), list(y)
    stretches = most // 2
    kept: list[int] = []
    for number in range(stretches):
        stretch = range(number * len(x) // stretches, (number + 1) * len(x) // stretches)
        finite = [i for i in stretch if math.isfinite(y[i])] or [stretch[0]]
        kept += sorted({min(finite, key=y.__getitem__), max(finite, key=y.__getitem__)})
    if kept[-1] != len(x) - 1:
        kept.append(len(x) - 1)
    return [x[i] for i in kept], [y[i] for i in kept]


def chosen(count: int, most: int, *also: int) -> list[int]:
    """At most `most` of range(count), evenly, with the first and the last, and also these."""
    if count <= most:
        return list(range(count))
    even = {round(i * (count - 1) / (most - 1)) for i in range(most)}
    return sorted(even | {i for i in also if 0 <= i < count})
