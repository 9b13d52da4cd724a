"""What cannot be used is refused with a sentence that says what, where, and what to do."""

import math
import sys

import numpy as np
import pytest

import mlp
from mlp.backends import _BACKENDS, available_backends, get_backend, unavailable_reason
from mlp.errors import BackendUnavailable, InvalidSetting, MLPError, require_in

LAYERS = [mlp.Dense(3, "tanh"), mlp.Dense(2, "softmax")]


def net(**settings) -> mlp.Network:
    return mlp.Network(4, LAYERS, **{"device": "numpy"} | settings)


# --- the errors themselves ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (mlp.InvalidInput, ValueError),
        (mlp.InvalidSetting, ValueError),
        (mlp.BackendUnavailable, RuntimeError),
        (mlp.ModelFileError, ValueError),
        (mlp.TrainingDiverged, ArithmeticError),
    ],
)
def test_each_error_is_ours_and_python_s(error, builtin):
    assert issubclass(error, MLPError)
    assert issubclass(error, builtin)


@pytest.mark.parametrize(("value", "inside"), [(0, True), (1, True), (1.01, False), (-0.1, False)])
def test_closed_range(value, inside):
    if inside:
        assert require_in("share", value, 0, 1) == value
    else:
        with pytest.raises(InvalidSetting, match=rf"share must be in \[0, 1\], not {value}"):
            require_in("share", value, 0, 1)


@pytest.mark.parametrize("value", [1, math.nan, None, "much", [0.5, 0.5]])
def test_half_open_range(value):
    with pytest.raises(InvalidSetting, match=r"share must be in \[0, 1\), not "):
        require_in("share", value, 0, 1, open_high=True)


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mlp.Dense(2, "sigmiod"), "unknown activation 'sigmiod'; did you mean 'sigmoid'?"),
        (lambda: mlp.Trainer(net(), "cross_entrpy"), "loss .*; did you mean 'cross_entropy'?"),
        (lambda: mlp.Trainer(net(), 3), "unknown loss '3'. Valid: half_squared_error, mse, "),
        (lambda: mlp.Trainer(net(), ["mse"]), "unknown loss"),
        (lambda: mlp.Trainer(net(), "mse", "admm"), "unknown optimizer 'admm'; did you mean 'ada"),
        (lambda: mlp.Trainer(net(), "mse", mlp.Adam), "unknown optimizer "),
        (lambda: mlp.Trainer(net(), "mse", schedule="cosin"), "schedule .*; did you mean 'cosine'"),
        (lambda: net(device="cpuu"), "unknown device 'cpuu'; did you mean 'cpu'?"),
        (lambda: net(precision="float23"), "unknown precision 'float23'; did you mean 'float32'?"),
        (lambda: net(precision=["float32"]), "unknown precision"),
        (
            lambda: net().gradients([[1.0] * 4], [0], "hubr"),
            "unknown loss 'hubr'; did you mean 'huber",
        ),
    ],
)
def test_unknown_names_come_with_a_suggestion_and_the_valid_ones(make, message):
    with pytest.raises(InvalidSetting, match=message.replace("?", r"\?")) as caught:
        make()
    assert "Valid: " in str(caught.value)


# --- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size must be a positive whole number, not 0"),
        ({"batch_size": -5}, "batch_size must be a positive whole number, not -5"),
        ({"batch_size": 3.0}, "batch_size must be a positive whole number, not 3.0"),
        ({"weight_decay": -1}, "weight_decay must be in"),
        ({"weight_decay": math.inf}, "weight_decay must be in"),
        ({"l1": math.nan}, "l1 must be in"),
        ({"l2": "x"}, "l2 must be in"),
        ({"clip_norm": 0}, "clip_norm must be greater than 0, or None"),
        ({"clip_norm": -1}, "clip_norm must be in"),
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"seed": np.array([1, 2])}, "seed must be a whole number from 0"),
        ({"batch_size": np.array([1, 2])}, "batch_size must be a positive whole number"),
    ],
)
def test_trainer_settings(settings, message):
    with pytest.raises(InvalidSetting, match=message):
        mlp.Trainer(net(), "mse", **settings)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mlp.SGD(lr=-0.1), "lr must be in"),
        (lambda: mlp.SGD(lr=math.nan), "lr must be in"),
        (lambda: mlp.SGD(momentum=1.1), r"momentum must be in \[0, 1\]"),
        (lambda: mlp.SGD(dampening=1.1), "dampening must be in"),
        (lambda: mlp.SGD(nesterov=True), "nesterov needs a momentum above 0 and no dampening"),
        (lambda: mlp.SGD(0.1, 0.9, True, 0.1), "nesterov needs a momentum above 0 and no damp"),
        (lambda: mlp.SGD(weight_decay=-1), "weight_decay must be in"),
        (lambda: mlp.RMSprop(alpha=1), "alpha must be in"),
        (lambda: mlp.RMSprop(eps=-1), "eps must be in"),
        (lambda: mlp.Adagrad(lr_decay=-1), "lr_decay must be in"),
        (lambda: mlp.Adagrad(initial_accumulator_value=-1), "initial_accumulator_value must be"),
        (lambda: mlp.Adam(betas=(0.9, 1.0)), "beta2 must be in"),
        (lambda: mlp.Adam(betas=(0.9,)), "betas must be two numbers"),
        (lambda: mlp.AdamW(betas=0.9), "betas must be two numbers"),
        (lambda: mlp.Lion(betas=(-0.1, 0.9)), "beta1 must be in"),
        (lambda: mlp.Huber(delta=0), "Huber's delta must be greater than 0"),
        (lambda: mlp.Huber(delta=math.inf), "Huber's delta must be in"),
        (lambda: mlp.CrossEntropy(label_smoothing=1.5), "label_smoothing must be in"),
        (lambda: mlp.CrossEntropy(clip=0.5), "clip must be in"),
        (lambda: mlp.CrossEntropy(0.1, 0.1), "either label_smoothing or clip"),
        (lambda: mlp.BinaryCrossEntropy(clip=-0.1), "clip must be in"),
        (lambda: mlp.CrossEntropy(clip=0.1).form("sigmoid"), "with clip does not fit the output"),
    ],
)
def test_settings_of_optimizers_and_losses(make, message):
    with pytest.raises(InvalidSetting, match=message):
        make()


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
def test_a_loss_of_probabilities_refuses_other_outputs(loss):
    values = mlp.Network(4, [mlp.Dense(2, "tanh")], device="numpy")
    message = f"loss '{loss}' needs probabilities, but the output activation is 'tanh'; use one of"
    with pytest.raises(InvalidSetting, match=message):
        mlp.Trainer(values, loss)
    with pytest.raises(InvalidSetting, match=message):
        values.gradients(np.ones((1, 4)), [[0, 1]], loss)


def test_a_trainer_trains_networks():
    with pytest.raises(InvalidSetting, match=r"network must be an mlp\.Network, not list"):
        mlp.Trainer(LAYERS, "mse")


# --- devices --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "device", ["gpu", "cuda:x", "cuda:-1", "cuda:1.5", "cuda:", "cpu:0", "cpu:", "numpy:1", "CPU",
               "", None, 0, ["cpu"]],
)  # fmt: skip
def test_devices_that_are_none(device):
    with pytest.raises(
        InvalidSetting, match=r"unknown device .*Valid: auto, cpu, numpy, cuda, cud"
    ):
        net(device=device)


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:3"])
def test_cuda_says_what_is_missing_and_never_falls_back(device, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(BackendUnavailable, match=r"CuPy is not installed; pip .*device='cpu'"):
        net(device=device)


def test_auto_is_the_cpu_where_there_is_no_gpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert mlp.Network(4, LAYERS).device == "cpu"


def test_every_backend_is_listed_with_its_state(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    found = available_backends()
    assert set(found) == set(_BACKENDS) == {"numpy", "cpu", "cuda"}
    assert found["numpy"] == "usable"
    assert found["cuda"] == unavailable_reason("cuda")
    assert "CuPy is not installed" in found["cuda"]


def test_a_backend_is_made_once(backend):
    assert get_backend(backend.name) is backend


@pytest.mark.parametrize("precision", ["tf32", "float16"])
def test_a_precision_that_the_device_lacks(precision):
    message = f"precision '{precision}' is not available on device 'cpu'; use one of: float64, "
    with pytest.raises(BackendUnavailable, match=message):
        mlp.Network(4, LAYERS, device="cpu", precision=precision)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_classes_must_be_as_many_as_outputs(count):
    network = mlp.Network(4, [mlp.Dense(2, "softmax")], device="numpy")
    with pytest.raises(InvalidSetting, match=f"classes must hold 2 labels, not {count}"):
        network.classes = range(count)


@pytest.mark.parametrize("layers", [mlp.Dense(3), 3, None])
def test_layers_must_be_a_list(layers):
    with pytest.raises(InvalidSetting, match="layers must be a list"):
        mlp.Network(4, layers)


def test_sizes_beyond_any_memory():
    with pytest.raises(InvalidSetting, match="is too large"):
        mlp.Network(4, [mlp.Dense(10**30)])


@pytest.mark.parametrize("callbacks", [mlp.EarlyStopping(), [mlp.EarlyStopping], [3]])
def test_callbacks_must_be_a_list_of_callbacks(callbacks):
    trainer = mlp.Trainer(mlp.Network(2, [mlp.Dense(1)], device="numpy"), "mse")
    with pytest.raises(InvalidSetting, match=r"callbacks? must be"):
        trainer.fit([[0, 1]], [0], 1, callbacks=callbacks)


def test_a_schedule_must_give_a_rate_per_step():
    class Wrong(mlp.Schedule):
        def rates(self, lr, horizon, state):
            return 0.1

    trainer = mlp.Trainer(mlp.Network(2, [mlp.Dense(1)], device="numpy"), "mse", schedule=Wrong())
    with pytest.raises(InvalidSetting, match=r"Wrong\.rates must return 1 rates"):
        trainer.fit([[0, 1]], [0], 1)


def test_names_are_compared_without_their_case():
    with pytest.raises(InvalidSetting, match="did you mean 'relu'"):
        mlp.Dense(3, "Relu")
