"""exp, log and their kin of one number, written so that a loop over them runs in vector lanes.

The C library's functions take one number per call, and a call keeps the loop around it scalar.
Here is arithmetic and bit patterns alone, and every case is a choice between two values: no branch,
no call. NaN passes through; nothing else raises a flag that matters.

The ways are the usual ones (Muller, Elementary Functions, 3rd ed., chapters 3 to 5 and 11):

    exp    z = n ln 2 + r, |r| <= ln 2 / 2: exp(z) = 2^n (1 + expm1(r)), ln 2 in two parts
    log1p  s = f / (2 + f): log(1 + f) = 2 atanh(s) = f - f^2/2 + s (f^2/2 + s^2 L(s^2))
    Phi    exp(-z^2/2) times a smooth function of z, so that the left tail keeps its precision

The largest errors found over dense grids, in units in the last place:

               float32  float64
    exp            1.0      1.0
    expm1          0.9      1.2
    tanh           2.5      2.6
    log1p          1.3      1.3
    log            0.9      1.3
    Phi            3.9      3.6
    phi            2.8      2.9

On a processor without fused multiply-add, Phi and phi lose more in their tails, as the square of z.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from mlp_kernels.cpu.compiler import kernel

# Constants and tables are pairs: for float32, for float64.
#
# Tables hold coefficients, lowest power first, of the polynomial through a function at the
# Chebyshev nodes of an interval, solved with 60 digits. Each polynomial is within 2^-28 (float32)
# and 2^-59 (float64) of its function, in terms of the result.

# (expm1(r) - r) / r^2 for |r| <= 0.35
EXPM1 = (
    (0.5, 0.16666667, 0.041666456, 0.0083333105, 0.0013934532, 0.0001989197),
    (
        0.5, 0.1666666666666667, 0.04166666666666667, 0.008333333333325551, 0.0013888888888883332,
        0.00019841269876840357, 2.480158732699005e-05, 2.755725286336732e-06,
        2.755727183153613e-07, 2.5106262550879078e-08, 2.0915433598076003e-09,
    ),
)  # fmt: skip

# (2 atanh(s) / s - 2) / s^2 in powers of s^2, for s^2 <= 1/9
LOG1P = (
    (0.6666667, 0.39999706, 0.28592357, 0.21706575, 0.2322433),
    (
        0.6666666666666666, 0.39999999999999525, 0.285714285716001, 0.2222222219823677,
        0.18181819897962714, 0.1538454396486055, 0.13335178631449257, 0.11734279061303197,
        0.10845178394880015, 0.07492143795550767, 0.1563057780092285,
    ),
)  # fmt: skip

# (a + c) exp(a^2/2) Phi(-a) in powers of (a - c) / (a + c), for 0 <= a <= NORMAL_TOP; the change of
# variable is that of Shepherd and Laframboise, Mathematics of Computation 36 (1981)
MILLS_CENTRE = (3.0, 4.0)
NORMAL_TOP = (14.5, 38.6)  # Phi is 0 there
MILLS = (
    (
        0.7290837, -0.509332, 0.23001768, -0.047262747, -0.010462293, 0.0069698133, 0.0010241357,
        -0.0010342221, -0.00024458265, 0.00013312591, 5.5355966e-05,
    ),
    (
        0.7552851304157515, -0.6078966419718921, 0.38713740074221453, -0.18652185795965676,
        0.06039657489093917, -0.00754018896675625, -0.00347969236749564, 0.0016308184582530438,
        0.0001333443142345013, -0.00023109494269553377, -1.9082767090641264e-06,
        3.514473482317688e-05, 7.167783552231668e-07, -5.920365065339118e-06,
        -6.301412858091777e-07, 1.0220155412259635e-06, 2.72966524165216e-07,
        -1.5560646234909354e-07, -8.739309674114579e-08, 1.3666762296332062e-08,
        2.175115044492015e-08, 2.0748993500452713e-09, -3.827770348816937e-09,
        -1.0882677389422826e-09, 3.4773733947264296e-10, 1.510662448211333e-10,
    ),
)  # fmt: skip

LOG2_E = 1.4426950408889634
# ln 2 in two parts; the first has so few bits that its product with an exponent is exact. The
# splits of Cephes (expf.c) and of fdlibm (e_exp.c).
LN2_HIGH = (0.693359375, 6.93147180369123816490e-01)
LN2_LOW = (-2.12194440e-4, 1.90821492927058770002e-10)
# exp is 0 below the first and infinite above the second.
EXP_BOTTOM, EXP_TOP = (-104.0, -746.0), (89.0, 710.0)
EXPM1_BOTTOM = (-20.0, -40.0)  # expm1 is -1 there
TINY = (2.0**-126, 2.0**-1022)
TINY_SHIFT = (24.0, 54.0)
TINY_SCALE = (2.0**24, 2.0**54)
INVERSE_ROOT_2_PI = 0.3989422804014327

# How numbers are stored: bits of the fraction, what is added to the exponent, and the patterns of
# sqrt(1/2) and of 1.5 * 2^(bits of the fraction). Next to the last, the numbers are the integers.
FRACTION_BITS, BIAS = (23, 52), (127, 1023)
ROOT_HALF_BITS = (0x3F3504F3, 0x3FE6A09E667F3BCD)
MAGIC = (1.5 * 2.0**23, 1.5 * 2.0**52)
MAGIC_BITS = (0x4B400000, 0x4338000000000000)


# --- instructions -------------------------------------------------------------------------------
# What Python has no word for. Numba would also widen 32-bit integers, and halve the lanes.


# As Numba types it, a call would need the compiler's own first argument.
instruction: Any = intrinsic


def _of(number: Any, pair: tuple[Any, Any]) -> Any:
    """The half of a pair for a float type."""
    return pair[(types.float32, types.float64).index(number)]


@instruction
def constant(typing: Any, x: Any, pair: Any) -> Any:
    """The half of a pair for the type of x."""
    half = _of(x, (0, 1))

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        value = builder.extract_value(values[1], half)
        return context.cast(builder, value, types.float64, x)

    return x(x, pair), codegen


def _fused(builder: Any, a: Any, b: Any, c: Any) -> Any:
    # fmuladd is two instructions where the machine has no fused one; fma would be a slow call.
    kind = ir.FunctionType(a.type, [a.type] * 3)
    function = builder.module.declare_intrinsic("llvm.fmuladd", [a.type], kind)
    return builder.call(function, [a, b, c])


@instruction
def multiply_add(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """A b + c, rounded once where the processor can."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return _fused(builder, *values)

    return a(a, a, a), codegen


@instruction
def polynomial(typing: Any, x: Any, tables: Any) -> Any:
    """Horner's rule with the table for the type of x."""
    half = _of(x, (0, 1))

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        table = builder.extract_value(values[1], half)
        coefficients = [
            context.cast(builder, builder.extract_value(table, i), types.float64, x)
            for i in range(tables.types[half].count)
        ]
        value = coefficients.pop()
        while coefficients:
            value = _fused(builder, value, values[0], coefficients.pop())
        return value

    return x(x, tables), codegen


def _integer(x: Any) -> Any:
    """The integer type as wide as a float type."""
    return ir.IntType(x.bitwidth)


def _from_root_half(builder: Any, x: Any, value: Any) -> Any:
    """The bits of a number, counted from sqrt(1/2): so the exponent changes where m has to."""
    one = _of(x, BIAS) << _of(x, FRACTION_BITS)
    shift = ir.Constant(_integer(x), one - _of(x, ROOT_HALF_BITS))
    return builder.add(builder.bitcast(value, _integer(x)), shift)


@instruction
def power_of_two(typing: Any, n: Any) -> Any:
    """2^n for an integer n that is the exponent of a normal number."""
    bits, magic, bias, width = _integer(n), _of(n, MAGIC), _of(n, BIAS), _of(n, FRACTION_BITS)

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = values[0].type
        number = builder.bitcast(builder.fadd(values[0], ir.Constant(kind, magic)), bits)
        exponent = builder.add(number, ir.Constant(bits, bias))
        return builder.bitcast(builder.shl(exponent, ir.Constant(bits, width)), kind)

    return n(n), codegen


@instruction
def exponent(typing: Any, x: Any) -> Any:
    """The k of x = m 2^k, sqrt(1/2) <= m < sqrt(2), for a positive normal x."""
    bits, magic, bias, width = _integer(x), _of(x, MAGIC), _of(x, BIAS), _of(x, FRACTION_BITS)

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = values[0].type
        number = builder.lshr(_from_root_half(builder, x, values[0]), ir.Constant(bits, width))
        near_magic = builder.add(number, ir.Constant(bits, _of(x, MAGIC_BITS)))
        return builder.fsub(builder.bitcast(near_magic, kind), ir.Constant(kind, magic + bias))

    return x(x), codegen


@instruction
def mantissa(typing: Any, x: Any) -> Any:
    """The m of x = m 2^k, sqrt(1/2) <= m < sqrt(2), for a positive normal x."""
    bits, fraction = _integer(x), (1 << _of(x, FRACTION_BITS)) - 1

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        offset = _from_root_half(builder, x, values[0])
        inside = builder.and_(offset, ir.Constant(bits, fraction))
        number = builder.add(inside, ir.Constant(bits, _of(x, ROOT_HALF_BITS)))
        return builder.bitcast(number, values[0].type)

    return x(x), codegen


# --- functions ----------------------------------------------------------------------------------
# Inlined always: what is not inlined is a call, and the loop around it stays scalar.


@kernel(forceinline=True)
def reduced_expm1(z: Any) -> Any:
    """(n, expm1(r)) with z = n ln 2 + r."""
    T, magic = type(z), constant(z, MAGIC)
    n = (z * T(LOG2_E) + magic) - magic  # the nearest integer
    r = multiply_add(n, -constant(z, LN2_HIGH), z)
    r = multiply_add(n, -constant(z, LN2_LOW), r)
    return n, multiply_add(r * r, polynomial(r, EXPM1), r)


@kernel(forceinline=True)
def exp(z: Any) -> Any:
    T, magic = type(z), constant(z, MAGIC)
    bottom, top = constant(z, EXP_BOTTOM), constant(z, EXP_TOP)
    z = bottom if z < bottom else z
    z = top if z > top else z
    n, e = reduced_expm1(z)
    # In two factors: 2^n itself may be too large or too small, where exp is not.
    half = (T(0.5) * n + magic) - magic
    return (T(1) + e) * power_of_two(half) * power_of_two(n - half)


@kernel(forceinline=True)
def expm1(z: Any) -> Any:
    """exp(z) - 1 for z <= 0; above, the result means nothing."""
    T = type(z)
    bottom = constant(z, EXPM1_BOTTOM)
    n, e = reduced_expm1(bottom if z < bottom else z)
    scale = power_of_two(n)
    return multiply_add(scale, e, scale - T(1))


@kernel(forceinline=True)
def tanh(z: Any) -> Any:
    T = type(z)
    e = expm1(T(-2) * abs(z))
    a = e / (e + T(2))
    return a if z < T(0) else -a


@kernel(forceinline=True)
def log1p(f: Any) -> Any:
    """log(1 + f) for sqrt(1/2) - 1 <= f <= 1."""
    T = type(f)
    half_square = T(0.5) * f * f
    s = f / (T(2) + f)
    square = s * s
    rest = s * multiply_add(square, polynomial(square, LOG1P), half_square)
    return f - (half_square - rest)


@kernel(forceinline=True)
def log(x: Any) -> Any:
    """NaN for x < 0, -infinity for 0."""
    T = type(x)
    tiny = x < constant(x, TINY)
    normal = x * constant(x, TINY_SCALE) if tiny else x
    k = exponent(normal) - (constant(x, TINY_SHIFT) if tiny else T(0))
    rest = multiply_add(k, constant(x, LN2_LOW), log1p(mantissa(normal) - T(1)))
    y = multiply_add(k, constant(x, LN2_HIGH), rest)
    y = y if x < T(np.inf) else x  # x may be NaN
    outside = T(-np.inf) if x == T(0) else (T(np.nan) if x < T(0) else x)
    return y if x > T(0) else outside


@kernel(forceinline=True)
def normal(z: Any) -> Any:
    """(Phi(z), phi(z)), both of full relative precision in the left tail."""
    T = type(z)
    a, top, centre = abs(z), constant(z, NORMAL_TOP), constant(z, MILLS_CENTRE)
    a = top if a > top else a
    # exp(-a^2/2) = e (1 + c): exp multiplies the rounding error of the square by the square.
    square = a * a
    e = exp(T(-0.5) * square)
    c = T(-0.5) * multiply_add(a, a, -square)
    # 1 / (a + centre) = inverse (1 + d): the roundings of the sum and of the quotient.
    shifted = a + centre
    inverse = T(1) / shifted
    d = multiply_add(-shifted, inverse, T(1))
    d = multiply_add((shifted - centre) - a, inverse, d)
    t = multiply_add(T(-2) * centre, inverse, T(1))  # (a - centre) / (a + centre), but for d
    t = multiply_add(T(-2) * centre * inverse, d, t)
    tail = e * (inverse * polynomial(t, MILLS))
    tail = multiply_add(tail, c + d, tail)
    return (tail if z < T(0) else T(1) - tail), T(INVERSE_ROOT_2_PI) * multiply_add(e, c, e)
