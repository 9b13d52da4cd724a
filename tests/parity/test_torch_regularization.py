"""Clipping, penalties and decoupled decay against the same things said in PyTorch's words."""

import pytest

import mlp
from tests.parity.torch_twin import Twin, torch
from tests.problems import assert_all_close, network, parameters, rows, target
from tests.tolerances import FLOAT64_RELATIVE

ROWS, BATCH, EPOCHS, SEED = 22, 5, 6, 9
X, Y = rows(ROWS, 4), target("values", ROWS, 2)


def compare(backend, trainer_settings, optimizer, make_peer, **hooks):
    """Trains both; `make_peer` makes PyTorch's optimizer, `hooks` its penalty and clipping."""
    net = network(4, [(7, "tanh"), (2, "identity")], backend)
    twin = Twin(net, mlp.MSE())
    made = {name: hook(twin) for name, hook in hooks.items()}
    expected = list(twin.train(make_peer(twin), X, Y, BATCH, EPOCHS, SEED, **made))
    found = []
    trainer = mlp.Trainer(net, "mse", optimizer, BATCH, seed=SEED, **trainer_settings)
    trainer.fit(X, Y, EPOCHS, callbacks=[lambda t: found.append(parameters(t.network))])
    for ours, theirs in zip(found, expected, strict=True):
        assert_all_close(ours, theirs, FLOAT64_RELATIVE)
    return found


def sgd(twin):
    return torch.optim.SGD(twin.parameters, lr=0.1, momentum=0.9)


def penalty(l1, l2):
    def of(twin):
        def value():
            size = sum(W.abs().sum() for W in twin.weights)
            square = sum((W * W).sum() for W in twin.weights)
            return l1 * size + l2 / 2 * square

        return value

    return of


def clipping(bound):
    return lambda twin: lambda: torch.nn.utils.clip_grad_norm_(twin.parameters, bound)


@pytest.mark.parametrize("bound", [1e-3, 0.3, 1e6])
def test_clip_norm(bound, backend):
    compare(backend, {"clip_norm": bound}, mlp.SGD(0.1, 0.9), sgd, before_update=clipping(bound))


@pytest.mark.parametrize(("l1", "l2"), [(0.02, 0.0), (0.0, 0.3), (0.01, 0.2)])
def test_penalties(l1, l2, backend):
    compare(backend, {"l1": l1, "l2": l2}, mlp.SGD(0.1, 0.9), sgd, penalty=penalty(l1, l2))


def test_the_penalty_is_clipped_with_the_gradient(backend):
    compare(
        backend, {"l1": 0.05, "l2": 0.5, "clip_norm": 0.3}, mlp.SGD(0.1, 0.9), sgd,
        penalty=penalty(0.05, 0.5), before_update=clipping(0.3),
    )  # fmt: skip


def test_weight_decay_is_decoupled_and_spares_biases(backend):
    def adamw(twin):
        groups = [
            {"params": twin.weights, "weight_decay": 0.3},
            {"params": twin.biases, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=0.02)

    compare(backend, {"weight_decay": 0.3}, mlp.Adam(0.02), adamw)


def test_weight_decay_beside_momentum(backend):
    def decay(twin):
        def shrink():
            with torch.no_grad():
                for W in twin.weights:
                    W.mul_(1 - 0.1 * 0.2)

        return shrink

    compare(backend, {"weight_decay": 0.2}, mlp.SGD(0.1, 0.9), sgd, before_update=decay)


def test_everything_at_once(backend):
    def adamw(twin):
        groups = [
            {"params": twin.weights, "weight_decay": 0.1},
            {"params": twin.biases, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=0.02, amsgrad=True)

    settings = {"weight_decay": 0.1, "l1": 0.01, "l2": 0.1, "clip_norm": 0.5}
    compare(
        backend, settings, mlp.Adam(0.02, amsgrad=True), adamw,
        penalty=penalty(0.01, 0.1), before_update=clipping(0.5),
    )  # fmt: skip
