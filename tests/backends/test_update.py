"""Updates on flat buffers, of every backend, against recurrences on one number at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mlp.backends.protocol import PenaltySteps
from tests.tolerances import assert_close

LR, SCALE = 0.05, 0.5
STEPS = 4
SIZES = [1, 33, 2111]


def sign(x):
    return (x > 0) - (x < 0)


def plain_sgd(p, g, s, t, momentum, dampening, decay, nesterov):
    g = g + decay * p
    if "velocity" not in s:
        return p - LR * g
    s["velocity"] = g if t == 1 else momentum * s["velocity"] + (1 - dampening) * g
    return p - LR * (g + momentum * s["velocity"] if nesterov else s["velocity"])


def plain_rmsprop(p, g, s, t, alpha, eps, decay, momentum):
    g = g + decay * p
    s["square"] = alpha * s["square"] + (1 - alpha) * g**2
    variance = s["square"]
    if "mean" in s:
        s["mean"] = alpha * s["mean"] + (1 - alpha) * g
        variance = max(variance - s["mean"] ** 2, 0.0)
    step = g / (math.sqrt(variance) + eps)
    if "velocity" in s:
        step = s["velocity"] = momentum * s["velocity"] + step
    return p - LR * step


def plain_adagrad(p, g, s, t, lr_decay, decay, eps):
    g = g + decay * p
    s["total"] += g**2
    return p - LR / (1 + (t - 1) * lr_decay) * g / (math.sqrt(s["total"]) + eps)


def plain_adam(p, g, s, t, beta1, beta2, eps, decay, decoupled, eps_hat):
    if decoupled:
        p = p - LR * decay * p
    else:
        g = g + decay * p
    s["m"] = beta1 * s["m"] + (1 - beta1) * g
    s["v"] = beta2 * s["v"] + (1 - beta2) * g**2
    v = s["v"]
    if "v_max" in s:
        v = s["v_max"] = max(s["v_max"], v)
    if eps_hat:
        rate = LR * math.sqrt(1 - beta2**t) / (1 - beta1**t)
        return p - rate * s["m"] / (math.sqrt(v) + eps)
    return p - LR * (s["m"] / (1 - beta1**t)) / (math.sqrt(v / (1 - beta2**t)) + eps)


def plain_lion(p, g, s, t, beta1, beta2, decay):
    direction = sign(beta1 * s["m"] + (1 - beta1) * g)
    s["m"] = beta2 * s["m"] + (1 - beta2) * g
    return p - LR * (direction + decay * p)


# operation: (recurrence, its states in the contract's order, whether it takes counters)
UPDATES = {
    "sgd": (plain_sgd, ("velocity",), True),
    "rmsprop": (plain_rmsprop, ("square", "mean", "velocity"), False),
    "adagrad": (plain_adagrad, ("total",), True),
    "adam": (plain_adam, ("m", "v", "v_max"), True),
    "lion": (plain_lion, ("m",), False),
}

# (operation, states that this variant keeps, settings in the contract's order)
VARIANTS = [
    ("sgd", (), (0.0, 0.0, 0.0, False)),
    ("sgd", (), (0.0, 0.0, 0.1, False)),
    ("sgd", ("velocity",), (0.9, 0.3, 0.1, False)),
    ("sgd", ("velocity",), (0.9, 0.0, 0.0, True)),
    ("rmsprop", ("square",), (0.9, 1e-8, 0.0, 0.0)),
    ("rmsprop", ("square", "mean"), (0.9, 1e-2, 0.1, 0.0)),
    ("rmsprop", ("square", "velocity"), (0.9, 1e-8, 0.1, 0.8)),
    ("rmsprop", ("square", "mean", "velocity"), (0.9, 1e-2, 0.0, 0.8)),
    ("adagrad", ("total",), (0.0, 0.0, 1e-10)),
    ("adagrad", ("total",), (0.1, 0.1, 1e-10)),
    ("adam", ("m", "v"), (0.9, 0.999, 1e-8, 0.0, False, False)),
    ("adam", ("m", "v"), (0.8, 0.99, 1e-8, 0.1, False, False)),
    ("adam", ("m", "v"), (0.9, 0.999, 1e-8, 0.1, True, False)),
    ("adam", ("m", "v", "v_max"), (0.9, 0.9, 1e-8, 0.1, True, False)),
    ("lion", ("m",), (0.9, 0.99, 0.0)),
    ("lion", ("m",), (0.9, 0.99, 0.1)),
    ("sgd", ("velocity",), (1.0, 0.0, 0.0, True)),
    ("adam", ("m", "v"), (0.9, 0.999, 1e-2, 0.0, False, True)),
    ("adam", ("m", "v", "v_max"), (0.0, 0.0, 1e-2, 0.1, True, True)),
]


def scalars(device):
    return device.put([LR, SCALE, 0], np.float64)


@pytest.mark.parametrize(("operation", "kept", "settings"), VARIANTS)
def test_update(device, draw, operation, kept, settings):
    recurrence, all_states, takes_counters = UPDATES[operation]
    for size in SIZES:
        # Shrinking gradients, so that the largest v is not always the last one.
        gradients = [draw.normal(size, scale=2.0**-t) for t in range(STEPS)]
        start = draw.normal(size)
        p = device.put(start)
        state = {name: device.put(np.zeros(size)) for name in kept}
        expected = start.tolist()
        plain = [dict.fromkeys(kept, 0.0) for _ in range(size)]
        for t, g in enumerate(gradients, start=1):
            given = device.put(g)
            counters = [device.put([0, t, 0, 0], np.int64)] if takes_counters else []
            buffers = [state.get(name) for name in all_states]
            update = getattr(device.backend, operation)
            update(p, given, *buffers, scalars(device), *counters, *settings)
            np.testing.assert_array_equal(device.get(given), g)  # gradients are only read
            expected = [
                recurrence(p_i, SCALE * g_i, s, t, *settings)
                for p_i, g_i, s in zip(expected, g.tolist(), plain, strict=True)
            ]
        assert_close(device.get(p), expected, device.dtype, terms=STEPS)
        for name in kept:
            assert_close(
                device.get(state[name]), [s[name] for s in plain], device.dtype, terms=STEPS
            )


@pytest.mark.parametrize("operation", UPDATES)
def test_update_leaves_padding_at_0(device, operation):
    """A parameter of 0 whose gradient is 0 stays 0, as the padding of a flat buffer must."""
    _, all_states, takes_counters = UPDATES[operation]
    settings = next(settings for name, _, settings in VARIANTS if name == operation)
    p = device.put(np.zeros(3))
    buffers = [device.put(np.zeros(3)) for _ in all_states]
    counters = [device.put([0, 1, 0, 0], np.int64)] if takes_counters else []
    update = getattr(device.backend, operation)
    update(p, device.put(np.zeros(3)), *buffers, scalars(device), *counters, *settings)
    np.testing.assert_array_equal(device.get(p), np.zeros(3))


@pytest.mark.parametrize("operation", UPDATES)
def test_nan_gradient_makes_that_parameter_nan(device, operation):
    _, all_states, takes_counters = UPDATES[operation]
    settings = next(settings for name, _, settings in VARIANTS if name == operation)
    p = device.put(np.ones(33))
    buffers = [device.put(np.ones(33)) for _ in all_states]
    counters = [device.put([0, 2, 0, 0], np.int64)] if takes_counters else []
    gradients = np.where(np.arange(33) == 7, np.nan, 0.1)
    update = getattr(device.backend, operation)
    update(p, device.put(gradients), *buffers, scalars(device), *counters, *settings)
    np.testing.assert_array_equal(np.isnan(device.get(p)), np.arange(33) == 7)


def test_centered_variance_just_below_0_counts_as_0(device):
    """E[g^2] - E[g]^2 < 0 by rounding must not make a NaN."""
    p, g = device.put(np.ones(1)), device.put(np.zeros(1))
    square, mean = device.put([0.99]), device.put([1.0])
    device.backend.rmsprop(p, g, square, mean, None, scalars(device), 1.0, 1e-2, 0.0, 0.0)
    assert device.get(p) == 1


def test_penalty(device, draw):
    weights, gradients = draw.normal(33), draw.normal(33)
    weights[4] = 0.0
    result = device.put(gradients)
    device.backend.penalty(device.put(weights), result, 0.3, 0.7)
    expected = gradients + 0.3 * np.sign(weights) + 0.7 * weights
    assert_close(device.get(result), expected, device.dtype)


@pytest.mark.parametrize("size", [33, 10001])
def test_penalty_of_a_step(device, draw, size):
    """Its factor, and its value in float64, of the step that the counters name."""
    weights, gradients = draw.normal(size), draw.normal(size)
    result, backend = device.put(gradients), device.backend
    scales, values = (device.put(numbers, np.float64) for numbers in ([2.0, 0.5, 3.0], [7.0] * 3))
    steps = PenaltySteps(scales, values, device.put([9, 41, 1, 0], np.int64))
    backend.penalty(device.put(weights), result, 0.3, 0.7, steps)
    expected = gradients + 0.5 * (0.3 * np.sign(weights) + 0.7 * weights)
    assert_close(device.get(result), expected, device.dtype)
    value = math.fsum(0.3 * abs(w) + 0.35 * w * w for w in weights.tolist())
    assert_close(device.get(values), [7.0, value, 7.0], np.float64, terms=size)
    np.testing.assert_array_equal(device.get(scales), [2.0, 0.5, 3.0])


def test_decay(device, draw):
    weights = draw.normal(33)
    result = device.put(weights)
    device.backend.decay(result, scalars(device), 0.4)
    assert_close(device.get(result), weights * (1 - LR * 0.4), device.dtype)


@pytest.mark.parametrize("size", [1, 33, 10001])
@pytest.mark.parametrize("share", [0.1, 10.0])
def test_clip_norm(device, draw, size, share):
    gradients = draw.normal(size)
    norm = math.sqrt(sum(g * g for g in gradients))
    numbers = scalars(device)
    device.backend.clip_norm(device.put(gradients), share * norm, numbers)
    expected = min(1.0, share * norm / (norm + 1e-6))
    assert_close(device.get(numbers), [LR, expected, 0], np.float64)


def test_clip_norm_of_large_gradients_does_not_overflow(device):
    numbers = scalars(device)
    device.backend.clip_norm(device.put(np.full(100, 1e30)), 1e29, numbers)
    assert_close(device.get(numbers)[1], 0.01, device.dtype)


def test_clip_norm_of_nan_changes_nothing(device):
    numbers = scalars(device)
    device.backend.clip_norm(device.put([np.nan, 1.0]), 1.0, numbers)
    assert device.get(numbers)[1] == 1


def test_begin_step_in_a_ring(backend):
    counters = backend.from_host(np.array([0, 0, -1, 0]), np.int64)
    rates, numbers = (backend.from_host(np.ones(n), np.float64) for n in (5, 3))
    order = backend.from_host(np.array([5, 3, 1, 0, 2, 4]), np.int64)  # of 14 rows, six at a time
    index = backend.zeros((3,), np.int64)
    for rows in ([5, 3, 1], [0, 2, 4], [5, 3, 1], [0, 2, 4], [5, 3]):
        part = index[: len(rows)]
        backend.begin_step(counters, rates, numbers, order, part, 3)
        np.testing.assert_array_equal(backend.to_host(part), rows)


def test_begin_step(backend):
    counters = backend.from_host(np.array([9, 41, -1, 3]), np.int64)
    rates = backend.from_host(np.array([0.1, 0.2]), np.float64)
    numbers = backend.from_host(np.array([5.0, 0.5, 1.0]), np.float64)
    order = backend.from_host(np.array([3, 1, 4, 0, 2]), np.int64)
    index = backend.zeros((3,), np.int64)
    for batch, (rate, rows) in enumerate([(0.1, [3, 1, 4]), (0.2, [0, 2])]):
        part = index[: len(rows)]  # the last batch is not full
        backend.begin_step(counters, rates, numbers, order, part, 3)
        np.testing.assert_array_equal(backend.to_host(counters), [9, 42 + batch, batch, 3])
        np.testing.assert_array_equal(backend.to_host(numbers), [rate, 1.0, 0.0])
        np.testing.assert_array_equal(backend.to_host(part), rows)
