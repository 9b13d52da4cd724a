"""Every schedule against the class of torch.optim.lr_scheduler that its docstring names."""

import inspect

import numpy as np
import pytest

import mlp
from tests.parity.torch_twin import Twin, torch
from tests.problems import assert_all_close, difference, network, parameters, rows, target
from tests.tolerances import FLOAT64_RELATIVE

scheduler = torch.optim.lr_scheduler
ROWS, BATCH, BATCHES, EPOCHS, RATE, SEED = 22, 5, 5, 12, 0.2, 4
STEPS = EPOCHS * BATCHES

# name -> (schedule, its peer for an optimizer, stepped once per "epoch" or "batch")
SCHEDULES = {
    "step": (
        mlp.StepDecay(step_size=3, gamma=0.5), lambda o: scheduler.StepLR(o, 3, 0.5), "epoch",
    ),
    "exponential": (
        mlp.Exponential(gamma=0.8), lambda o: scheduler.ExponentialLR(o, 0.8), "epoch",
    ),
    "cosine": (mlp.Cosine(), lambda o: scheduler.CosineAnnealingLR(o, STEPS), "batch"),
    "cosine-min": (
        mlp.Cosine(eta_min=0.01), lambda o: scheduler.CosineAnnealingLR(o, STEPS, 0.01), "batch",
    ),
    "warmup": (
        mlp.LinearWarmup(epochs=4, start_factor=0.1),
        lambda o: scheduler.LinearLR(o, 0.1, total_iters=4 * BATCHES), "batch",
    ),
    "one_cycle": (
        mlp.OneCycle(),
        lambda o: scheduler.OneCycleLR(o, RATE, STEPS, cycle_momentum=False), "batch",
    ),
    "one_cycle-uneven": (
        mlp.OneCycle(pct_start=0.17, div_factor=3.0, final_div_factor=50.0),
        lambda o: scheduler.OneCycleLR(
            o, RATE, STEPS, pct_start=0.17, div_factor=3.0, final_div_factor=50.0,
            cycle_momentum=False,
        ), "batch",
    ),
}  # fmt: skip


def torch_training(net, make, every, validation=None):
    """PyTorch's whole training: parameters at the end, and the rate of every step."""
    twin = Twin(net, mlp.MSE())
    optimizer = torch.optim.SGD(twin.parameters, lr=RATE, momentum=0.5)
    plan, used = make(optimizer), []

    def after_update():
        used.append(optimizer.param_groups[0]["lr"])
        if every == "batch":
            plan.step()

    X, y = rows(ROWS, 4), target("values", ROWS, 2)
    for _ in twin.train(optimizer, X, y, BATCH, EPOCHS, SEED, after_update=after_update):
        if every == "epoch":
            plan.step(*(() if validation is None else (twin.loss(*validation).item(),)))
    return twin.snapshot(), np.reshape(used, (EPOCHS, BATCHES))


def our_training(net, schedule, validation=None):
    used = []

    def note(trainer):
        used.append(trainer.network.backend.to_host(trainer.step.rates))

    trainer = mlp.Trainer(
        net, "mse", mlp.SGD(RATE, momentum=0.5), BATCH, schedule=schedule, seed=SEED
    )
    history = trainer.fit(
        rows(ROWS, 4), target("values", ROWS, 2), EPOCHS, validation, callbacks=[note]
    )
    assert history["learning_rate"] == [rates[-1] for rates in used]
    return parameters(net), np.array(used)


def compare(backend, schedule, make, every, validation=None):
    net = network(4, [(7, "tanh"), (2, "identity")], backend)
    expected, their_rates = torch_training(net, make, every, validation)
    found, our_rates = our_training(net, schedule, validation)
    assert difference(our_rates, their_rates) < FLOAT64_RELATIVE
    assert_all_close(found, expected, FLOAT64_RELATIVE)
    return our_rates


@pytest.mark.parametrize("name", SCHEDULES)
def test_whole_training(name, backend):
    schedule, make, every = SCHEDULES[name]
    compare(backend, schedule, make, every)


@pytest.mark.parametrize(
    "settings",
    [
        {"factor": 0.5, "patience": 0},
        {"factor": 0.3, "patience": 1, "cooldown": 2, "threshold": 0.05},
        {"factor": 0.1, "patience": 0, "threshold": 0.1, "min_lr": 0.001},
    ],
)
def test_whole_training_with_reductions_on_plateaus(settings, backend):
    # The validation targets are unrelated to the training targets, so their loss soon rises.
    validation = (rows(9, 4, seed=20), target("values", 9, 2, seed=21))
    rates = compare(
        backend, mlp.ReduceOnPlateau(**settings),
        lambda o: scheduler.ReduceLROnPlateau(o, **settings), "epoch", validation,
    )  # fmt: skip
    assert rates[-1, 0] < rates[0, 0], "the training never met a plateau"


@pytest.mark.parametrize("cooldown", [0, 3])
@pytest.mark.parametrize("patience", [0, 2, 10])
def test_plateaus_of_a_random_walk(patience, cooldown):
    losses = 5 + np.cumsum(np.random.default_rng(8).standard_normal(200) * 0.1)
    settings = {"factor": 0.7, "patience": patience, "cooldown": cooldown, "threshold": 1e-2}
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=RATE)
    theirs = scheduler.ReduceLROnPlateau(optimizer, eps=0, min_lr=1e-4, **settings)
    ours = mlp.ReduceOnPlateau(min_lr=1e-4, **settings)
    state, found, expected = ours.start(), [], []
    for epoch, loss in enumerate(losses):
        horizon = mlp.schedules.Horizon(epoch, len(losses), 1, 1)
        found.append(ours.rates(RATE, horizon, state)[0])
        expected.append(optimizer.param_groups[0]["lr"])
        state = ours.observe(state, loss)
        theirs.step(loss)
    np.testing.assert_allclose(found, expected, rtol=FLOAT64_RELATIVE)


@pytest.mark.parametrize(
    ("ours", "theirs", "names"),
    [
        (mlp.StepDecay, scheduler.StepLR, {"gamma"}),
        (mlp.Cosine, scheduler.CosineAnnealingLR, {"eta_min"}),
        (mlp.LinearWarmup, scheduler.LinearLR, {"start_factor"}),
        (mlp.OneCycle, scheduler.OneCycleLR, {"pct_start", "div_factor", "final_div_factor"}),
        (
            mlp.ReduceOnPlateau, scheduler.ReduceLROnPlateau,
            {"factor", "patience", "threshold", "cooldown", "min_lr"},
        ),
    ],
)  # fmt: skip
def test_defaults_are_pytorchs(ours, theirs, names):
    default = {name: inspect.signature(ours).parameters[name].default for name in names}
    assert default == {name: inspect.signature(theirs).parameters[name].default for name in names}
