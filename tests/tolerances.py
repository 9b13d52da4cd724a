"""How far a result may be from the truth: the only place in the tests with such numbers.

The rounding error of a sum of K terms of size `scale` grows like sqrt(K) eps scale, where eps is
the spacing of numbers at 1 in the dtype. Hence the bound c sqrt(K) eps scale. In float64 everything
is compared with the reference to a fixed relative 1e-10 instead: far above rounding, and far below
any mistake in a formula.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# c leaves room for the few roundings of a term, and for exp and others that err by some eps.
FACTOR = 8.0
FLOAT64_RELATIVE = 1e-10

# Central differences in float64 with step h err by h^2 |f'''| / 6 + eps |f| / h.
DIFFERENCE_STEP = 1e-5
DIFFERENCE_RELATIVE = 1e-8

# The kernels' own exp, log and their kin: the largest error in units in the last place, in either
# dtype. A little above what was found on far denser grids than the tests' (see elementary.py).
ELEMENTARY_ULPS = {
    "exp": 1.1,
    "expm1": 1.3,
    "tanh": 2.8,
    "log1p": 1.4,
    "log": 1.4,
    "cdf": 4.2,
    "density": 3.1,
    "sigmoid": 2.6,
    "softplus": 2.1,
}

# Where products are made of bfloat16, two numbers that float32 holds an ulp apart may round to
# bfloat16 that are 2^-8 apart, and products of them are as far apart. That befalls few of an
# array's elements, while a wrong rounding befalls all: so the whole array is compared.
BFLOAT16_NORM = 2.0**-11

# The rounding of a number that is stored in 16 bits: relative, and of float16's smallest ones. The
# type that NumPy lacks, bfloat16, travels as uint16.
STORED_RELATIVE = {np.dtype(np.uint16): 2.0**-8, np.dtype(np.float16): 2.0**-11}
STORED_LEAST = {np.dtype(np.uint16): 0.0, np.dtype(np.float16): 2.0**-25}

# Losses of the epochs of two runs from one seed, relative, where sums are made in another order, or
# products of rounded numbers: what differs in one step moves all that follow.
SAME_RUN_LOSS = {"float64": 1e-10, "float32": 3e-5, "bfloat16": 5e-3}

# Bytes that Python objects of a step may take; the arrays of the allocation test are far larger.
STEADY_STATE_BYTES = 4096
# The same for the futures and locks with which a team of threads is started, once in a slice.
TEAM_START_BYTES = 16384


def bound(dtype: Any, terms: int, scale: float) -> float:
    """The largest error of a number made of `terms` terms of size `scale` in `dtype`."""
    if np.dtype(dtype) == np.float64:
        return FLOAT64_RELATIVE * scale
    return FACTOR * float(np.sqrt(terms)) * float(np.finfo(dtype).eps) * scale


def assert_close(
    actual: Any, expected: Any, dtype: Any, *, terms: int = 1, scale: float | None = None
) -> None:
    """`actual` within `bound` of `expected`; NaN and infinities in the same places.

    `scale` is by default the largest finite number expected, or 1 if that is larger.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    if scale is None:
        finite = expected[np.isfinite(expected)]
        scale = max(1.0, float(np.abs(finite).max(initial=0.0)))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=bound(dtype, terms, scale))


def assert_close_in_norm(actual: Any, expected: Any) -> None:
    """`actual` differs from `expected` by a share of its norm that a few roundings may make."""
    actual, expected = (np.asarray(array, np.float64) for array in (actual, expected))
    assert actual.shape == expected.shape
    assert np.isfinite(expected).all()
    difference = np.linalg.norm(actual - expected) / (np.linalg.norm(expected) or 1.0)
    assert difference <= BFLOAT16_NORM, f"the norm of the difference is {difference}"
