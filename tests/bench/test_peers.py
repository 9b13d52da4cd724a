"""Every peer that is installed trains and predicts what the others do."""

import numpy as np
import pytest

from bench.cases import Case
from bench.compare import void_reasons
from bench.data import make_problem
from bench.peers import PEERS, load_peer
from bench.reference import probabilities, training_loss

LIBRARIES = {"torch-eager": "torch", "torch-compile": "torch", "jax": "optax"}
CASES = [
    Case("two", "train", (20, 16, 1), rows=256, batch=32, epochs=5),
    Case("ten", "train", (20, 16, 16, 10), rows=256, batch=32, epochs=5),
]
named = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@pytest.fixture(params=PEERS)
def peer(request):
    name = request.param
    if name in LIBRARIES:
        pytest.importorskip(LIBRARIES[name], reason=f"{LIBRARIES[name]} is not installed")
    return load_peer(PEERS[name].module)


@named
@pytest.mark.filterwarnings("default")
def test_training(peer, case) -> None:
    problem = make_problem(case)
    ours = load_peer(PEERS["ours"].module).Training(case, problem, 1)
    ours.run(case.epochs)
    subject = peer.Training(case, problem, 1)
    losses = {"ours": training_loss(problem, *ours.parameters())}
    for again in ("once", "again"):
        subject.reset()
        start = [np.array(values) for values in subject.parameters()[0]]
        for found, wanted in zip(start, problem.weights, strict=True):
            np.testing.assert_array_equal(found, wanted)
        subject.run(case.epochs)
        losses[again] = training_loss(problem, *subject.parameters())
    assert max(losses.values()) < 0.95 * training_loss(problem, problem.weights, problem.biases)
    assert void_reasons(losses) == {}


@named
@pytest.mark.parametrize("batch", [1, 64])
@pytest.mark.filterwarnings("default")
def test_prediction(peer, case, batch) -> None:
    case = Case("rows", "predict", case.widths, rows=64, batch=batch)
    problem = make_problem(case)
    subject = peer.Prediction(case, problem, 1)
    subject.run()
    p = subject.probabilities()
    expected = probabilities(problem.X[-batch:], problem.weights, problem.biases)
    np.testing.assert_allclose(p[:, -expected.shape[1] :], expected, rtol=1e-4, atol=1e-6)
