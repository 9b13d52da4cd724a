"""The kernels' own exp, log and their kin: how far from the truth, and whether in vector lanes.

Truth is NumPy and SciPy in float64 for float32, and decimal arithmetic for float64.
"""

from __future__ import annotations

import platform
import re
from decimal import Decimal, localcontext

import numpy as np
import pytest
from numba import njit
from scipy import special

from mlp_kernels.cpu import activations, elementary
from tests.tolerances import ELEMENTARY_ULPS

DTYPES = [np.dtype(np.float32), np.dtype(np.float64)]
LIBRARY = {
    name + suffix
    for name in ("exp", "exp2", "expm1", "log", "log1p", "tanh", "erf", "erfc", "fma", "ldexp")
    for suffix in ("", "f")
}


@njit(error_model="numpy", forceinline=True)
def cdf(z):
    return elementary.normal(z)[0]


@njit(error_model="numpy", forceinline=True)
def density(z):
    return elementary.normal(z)[1]


FUNCTIONS = {
    "exp": elementary.exp,
    "expm1": elementary.expm1,
    "tanh": elementary.tanh,
    "log1p": elementary.log1p,
    "log": elementary.log,
    "cdf": cdf,
    "density": density,
    "sigmoid": activations.sigmoid,
    "softplus": activations.softplus,
}
LOOPS = {}


def loop(name):
    """The function over a whole array, compiled."""
    if name not in LOOPS:
        function = FUNCTIONS[name]

        @njit(error_model="numpy")
        def apply(x, out):
            for i in range(x.size):
                out[i] = function(x[i])

        LOOPS[name] = apply
    return LOOPS[name]


def apply(name, x):
    out = np.full_like(x, np.nan)
    loop(name)(x, out)
    return out


# --- accuracy -------------------------------------------------------------------------------------


def arguments(name, dtype, count):
    """Numbers of all sizes in the function's domain, denormal ones among them."""
    rng = np.random.default_rng(5)
    limits = np.finfo(dtype)
    bottom, top = -np.log(2.0) * (limits.nmant - limits.minexp), np.log(float(limits.max))
    sizes = 2.0 ** rng.uniform(limits.minexp - limits.nmant, 0, count)
    even = rng.uniform(0, 1, count)
    if name == "log":
        x = np.concatenate(
            [2.0 ** rng.uniform(limits.minexp, limits.maxexp, count), sizes, 2 * even]
        )
    elif name == "log1p":
        x = np.concatenate([sizes, -0.29 * sizes, even, -0.29 * even])
    elif name == "expm1":
        x = -np.concatenate([sizes, 2 * even, 50 * even, -bottom * even])
    elif name in ("cdf", "density"):
        tail = np.sqrt(-2 * bottom)
        x = np.concatenate([sizes, -sizes, 8 * even - 4, -tail * even])
    else:
        x = np.concatenate([sizes, -sizes, 40 * even - 20, bottom * even, top * even])
    return x.astype(dtype)


def in_float64(name, x):
    with np.errstate(under="ignore"):
        return {
            "exp": np.exp,
            "expm1": np.expm1,
            "tanh": np.tanh,
            "log1p": np.log1p,
            "log": np.log,
            "cdf": special.ndtr,
            "density": lambda x: np.exp(-x * x / 2) / np.sqrt(2 * np.pi),
            "sigmoid": special.expit,
            "softplus": lambda x: np.logaddexp(0, x),
        }[name](x)


def in_decimals(name, x):
    """The function of a Decimal, in decimal arithmetic of high precision."""
    small = abs(x) < Decimal("1e-20")  # where a series of two terms is exact enough
    if name == "exp":
        return x.exp()
    if name == "expm1":
        return x + x * x / 2 if small else x.exp() - 1
    if name == "log1p":
        return x - x * x / 2 if small else (1 + x).ln()
    if name == "log":
        return x.ln()
    if name == "tanh":
        return x if small else 1 - 2 / ((2 * x).exp() + 1)
    if name == "sigmoid":
        return 1 / (1 + (-x).exp())
    if name == "softplus":
        e = x.exp()
        return e - e * e / 2 if e < Decimal("1e-20") else (1 + e).ln()
    bell = (-x * x / 2).exp() / (2 * Decimal("3.14159265358979323846264338327950288419717")).sqrt()
    return bell if name == "density" else normal_cdf(x, bell)


def normal_cdf(x, bell):
    """Phi by its series around 0, or in the tails by Laplace's continued fraction."""
    if abs(x) < 5:
        term = total = x
        n = 1
        while abs(term) > abs(total) * Decimal("1e-40"):
            n += 2
            term *= x * x / n
            total += term
        return Decimal("0.5") + bell * total
    fraction = abs(x)
    for n in range(150, 0, -1):
        fraction = abs(x) + n / fraction
    tail = bell / fraction
    return tail if x < 0 else 1 - tail


def ulps(actual, expected):
    """Errors in units in the last place of the truth."""
    unit = np.spacing(np.abs(np.array(expected, dtype=actual.dtype)))
    unit = np.maximum(unit, np.finfo(actual.dtype).smallest_subnormal)
    if actual.dtype == np.float32:
        return np.abs(actual.astype(np.float64) - expected) / unit
    exact = zip(actual.tolist(), expected, unit.tolist(), strict=True)
    return np.array([float(abs(Decimal(a) - e) / Decimal(u)) for a, e, u in exact])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_accuracy(name, dtype):
    if name in ("cdf", "density") and not fused():
        pytest.skip("without fused multiply-add, the tail is less precise")
    x = arguments(name, dtype, 200_000 if dtype == np.float32 else 300)
    if dtype == np.float32:
        expected = in_float64(name, x.astype(np.float64))
    else:
        with localcontext() as context:
            context.prec = 60
            expected = [in_decimals(name, Decimal(value)) for value in x.tolist()]
    assert ulps(apply(name, x), expected).max() <= ELEMENTARY_ULPS[name]


def fused() -> bool:
    """Whether this processor rounds a product and a sum once."""

    @njit
    def error_of_square(a):
        return elementary.multiply_add(a, a, -(a * a))

    return error_of_square(1 + 2.0**-30) != 0


# --- limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("name", "at_minus_infinity", "at_infinity"),
    [
        ("exp", 0, np.inf),
        ("expm1", -1, None),
        ("tanh", -1, 1),
        ("log", np.nan, np.inf),
        ("cdf", 0, 1),
        ("density", 0, 0),
        ("sigmoid", 0, 1),
        ("softplus", 0, np.inf),
    ],
)
def test_limits(name, dtype, at_minus_infinity, at_infinity):
    """At infinity and at the largest number; NaN stays NaN."""
    largest = np.finfo(dtype).max
    low = apply(name, np.array([-np.inf, -largest], dtype))
    np.testing.assert_array_equal(low, np.full(2, at_minus_infinity))
    assert np.isnan(apply(name, np.array([np.nan], dtype)))
    if at_infinity is not None:
        high = apply(name, np.array([np.inf, largest], dtype))
        assert high[0] == at_infinity
        if name == "log":
            assert np.isclose(high[1], np.log(largest))
        else:
            assert high[1] == (largest if name == "softplus" else at_infinity)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_exact_values(dtype):
    zero = np.zeros(1, dtype)
    for name, expected in [("exp", 1), ("expm1", 0), ("tanh", 0), ("log1p", 0), ("cdf", 0.5)]:
        assert apply(name, zero) == expected
    assert apply("log", zero) == -np.inf
    assert apply("log", zero + 1) == 0


# --- vector lanes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", activations.ACTIVATIONS)
def test_the_place_in_an_array_does_not_change_the_result(name, dtype):
    """What is left over after full vectors is computed one by one, and to the same bits."""
    code = activations.ACTIVATIONS[name]
    if code == activations.SOFTMAX:
        pytest.skip("mixes the numbers of a row")
    z = (np.random.default_rng(0).standard_normal(203) * 4).astype(dtype)
    a, slope = z.copy(), np.ones_like(z)
    activations.activate(code, a, 1)
    activations.derive(code, slope, z, 1)
    for i in range(z.size):
        one_a, one_slope = z[i : i + 1].copy(), np.ones(1, dtype)
        activations.activate(code, one_a, 1)
        activations.derive(code, one_slope, z[i : i + 1], 1)
        assert one_a[0] == a[i]
        assert one_slope[0] == slope[i]


on_x86 = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="reads the assembly of x86"
)


def called(assembly):
    """The names of functions whose address is taken."""
    return set(re.findall(r"(?:call\w*|movabsq)\s+\$?(\w+)", assembly))


@on_x86
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_loops_run_in_vector_lanes(name, dtype):
    apply(name, np.ones(1, dtype))
    compiled = loop(name).inspect_asm()
    (assembly,) = [text for types, text in compiled.items() if str(dtype) in str(types[0])]
    suffix = {"float32": "ps", "float64": "pd"}[str(dtype)]
    assert re.search(rf"\bv?(fmadd\w+|mul){suffix}\b", assembly)
    assert not called(assembly) & LIBRARY


@on_x86
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_activations_call_no_library(dtype):
    z = np.ones(1, dtype)
    for kernel, arguments in [
        (activations.activate, (0, z, 1)),
        (activations.derive, (0, z, z, 1)),
    ]:
        fresh = njit(error_model="numpy")(kernel.py_func)  # what is read from a cache has no text
        fresh(*arguments)
        (assembly,) = fresh.inspect_asm().values()
        assert not called(assembly) & LIBRARY
