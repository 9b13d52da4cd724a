"""What a network is: validated when made, and the same after a trip through JSON."""

import json
import math

import numpy as np
import pytest

import mlp
from mlp.errors import InvalidSetting


@pytest.mark.parametrize("units", [0, -1, 2.0, "3", None, True])
def test_units_must_be_a_positive_whole_number(units):
    with pytest.raises(InvalidSetting, match="units must be a positive whole number, not"):
        mlp.Dense(units)


@pytest.mark.parametrize("inputs", [0, -4, 1.5, False])
def test_inputs_must_be_a_positive_whole_number(inputs):
    with pytest.raises(InvalidSetting, match="inputs must be a positive whole number, not"):
        mlp.NetworkSpec(inputs, (mlp.Dense(1),))


def test_numpys_whole_numbers_count():
    spec = mlp.NetworkSpec(np.int64(3), (mlp.Dense(np.int32(2)),))
    assert spec == mlp.NetworkSpec(3, (mlp.Dense(2),))
    assert type(spec.inputs) is type(spec.layers[0].units) is int


@pytest.mark.parametrize("rate", [1, 1.5, -0.1, math.nan, math.inf, "half"])
def test_dropout_rates_out_of_range(rate):
    with pytest.raises(InvalidSetting, match=r"dropout must be in \[0, 1\), not"):
        mlp.Dense(3, dropout=rate)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"activation": "rleu"}, "unknown activation 'rleu'; did you mean 'relu'"),
        ({"activation": None}, "unknown activation 'None'. Valid: identity, relu"),
        ({"activation": ["relu"]}, "unknown activation"),
        ({"initializer": "he"}, "unknown initializer 'he'"),
        ({"initializer": "orthogonl"}, "did you mean 'orthogonal'"),
    ],
)
def test_unknown_names(settings, message):
    with pytest.raises(InvalidSetting, match=message):
        mlp.Dense(3, **settings)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], "at least one layer"),
        ([mlp.Dense(3, "softmax"), mlp.Dense(2)], "layer 0: softmax can only be the last"),
        ([mlp.Dense(3), mlp.Dense(2, dropout=0.1)], "last layer cannot have dropout"),
        ([mlp.Dense(3), 2], "layer 1 must be an mlp.Dense, not int"),
    ],
)
def test_stacks_that_cannot_be_used(layers, message):
    with pytest.raises(InvalidSetting, match=message):
        mlp.NetworkSpec.of(4, layers)


def test_sizes():
    spec = mlp.NetworkSpec.of(4, (mlp.Dense(units) for units in (3, 5, 2)))
    assert spec.widths == (4, 3, 5, 2)
    assert spec.outputs == 2
    assert spec.output_activation == "identity"
    assert spec.parameter_count == 4 * 3 + 3 + 3 * 5 + 5 + 5 * 2 + 2


def test_specs_are_values():
    layers = [mlp.Dense(3, "tanh", 0.5, "he_normal"), mlp.Dense(2, "softmax")]
    spec = mlp.NetworkSpec.of(4, layers)
    assert hash(spec) == hash(mlp.NetworkSpec.of(4, layers))
    with pytest.raises(AttributeError):
        spec.inputs = 3
    with pytest.raises(AttributeError):
        spec.layers[0].units = 3


def test_round_trip_through_json():
    layers = (mlp.Dense(3, "gelu", dropout=0.25, initializer="orthogonal"), mlp.Dense(1))
    spec = mlp.NetworkSpec(7, layers)
    again = mlp.NetworkSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec


@pytest.mark.parametrize(
    "damaged",
    [
        {"layers": [{"units": 1}]},
        {"inputs": 1},
        {"inputs": 1, "layers": []},
        {"inputs": 1, "layers": [{"units": 0}]},
        {"inputs": 1, "layers": [{"units": 1, "colour": "red"}]},
        {"inputs": 1, "layers": 3},
    ],
)
def test_damaged_json(damaged):
    with pytest.raises((KeyError, TypeError, InvalidSetting)):
        mlp.NetworkSpec.from_json(damaged)
