"""Every optimizer follows PyTorch's trajectory, and takes its settings by PyTorch's names."""

import inspect

import pytest

import mlp
from mlp.optimizers import OPTIMIZERS
from tests.parity.torch_twin import Twin, torch
from tests.problems import assert_all_close, network, parameters, rows, target
from tests.tolerances import FLOAT64_RELATIVE

ROWS, EPOCHS_OF_ONE_STEP, RAGGED_BATCH = 22, 50, 5
VARIANTS = {
    "sgd": (mlp.SGD, {"lr": 0.1}),
    "sgd-momentum": (mlp.SGD, {"lr": 0.05, "momentum": 0.9}),
    "sgd-nesterov": (mlp.SGD, {"lr": 0.05, "momentum": 0.8, "nesterov": True}),
    "sgd-dampening": (mlp.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
    "sgd-decay": (mlp.SGD, {"lr": 0.1, "weight_decay": 0.05}),
    "sgd-all": (mlp.SGD, {"lr": 0.05, "momentum": 0.7, "nesterov": True, "weight_decay": 0.02}),
    "rmsprop": (mlp.RMSprop, {"lr": 0.01}),
    "rmsprop-momentum": (mlp.RMSprop, {"lr": 0.005, "alpha": 0.9, "momentum": 0.5}),
    "rmsprop-centered": (mlp.RMSprop, {"lr": 0.005, "alpha": 0.8, "centered": True}),
    "rmsprop-decay": (mlp.RMSprop, {"lr": 0.01, "weight_decay": 0.05, "eps": 1e-4}),
    "rmsprop-all": (
        mlp.RMSprop,
        {"lr": 0.003, "alpha": 0.9, "momentum": 0.9, "centered": True, "weight_decay": 0.01},
    ),
    "adagrad": (mlp.Adagrad, {"lr": 0.1}),
    "adagrad-lr_decay": (mlp.Adagrad, {"lr": 0.1, "lr_decay": 0.05}),
    "adagrad-decay": (mlp.Adagrad, {"lr": 0.1, "weight_decay": 0.05}),
    "adagrad-initial": (mlp.Adagrad, {"lr": 0.1, "initial_accumulator_value": 0.1, "eps": 1e-3}),
    "adam": (mlp.Adam, {"lr": 0.01}),
    "adam-betas": (mlp.Adam, {"lr": 0.01, "betas": (0.5, 0.8), "eps": 1e-3}),
    "adam-amsgrad": (mlp.Adam, {"lr": 0.02, "betas": (0.9, 0.9), "amsgrad": True}),
    "adam-decay": (mlp.Adam, {"lr": 0.01, "weight_decay": 0.1}),
    "adamw": (mlp.AdamW, {"lr": 0.01, "weight_decay": 0.1}),
    "adamw-amsgrad": (
        mlp.AdamW,
        {"lr": 0.02, "betas": (0.9, 0.9), "amsgrad": True, "weight_decay": 0.2},
    ),
}


def peer(optimizer: type):
    return getattr(torch.optim, optimizer.__name__)


def test_every_optimizer_of_pytorch_is_among_the_variants():
    assert {ours.name for ours, _ in VARIANTS.values()} == set(OPTIMIZERS) - {"lion"}


@pytest.mark.parametrize("optimizer", [mlp.SGD, mlp.RMSprop, mlp.Adagrad, mlp.Adam, mlp.AdamW])
def test_defaults_are_pytorchs(optimizer):
    theirs = inspect.signature(peer(optimizer)).parameters
    for name, parameter in inspect.signature(optimizer).parameters.items():
        if name == "eps_hat":  # which PyTorch has not, so that it must be off
            assert not parameter.default
        else:
            assert parameter.default == theirs[name].default, name


@pytest.mark.parametrize("batch_size", [ROWS, RAGGED_BATCH], ids=["full", "ragged"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_trajectory_of_50_steps(variant, batch_size, backend):
    optimizer, settings = VARIANTS[variant]
    epochs = EPOCHS_OF_ONE_STEP // -(-ROWS // batch_size)
    X, y = rows(ROWS, 4), target("labels", ROWS, 3)
    net = network(4, [(8, "tanh"), (5, "gelu"), (3, "softmax")], backend)
    twin = Twin(net, mlp.CrossEntropy())
    expected = twin.train(
        peer(optimizer)(twin.parameters, **settings), X, y, batch_size, epochs, seed=5
    )
    found = []
    trainer = mlp.Trainer(net, "cross_entropy", optimizer(**settings), batch_size, seed=5)
    trainer.fit(X, y, epochs, callbacks=[lambda t: found.append(parameters(t.network))])
    for ours, theirs in zip(found, expected, strict=True):
        assert_all_close(ours, theirs, FLOAT64_RELATIVE)
