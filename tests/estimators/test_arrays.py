"""coefs_ and intercepts_ and the network behind them; arrays and estimators of a GPU."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest

import mlp
from mlp.errors import BackendUnavailable, InvalidInput
from tests.conftest import ON_HOST, device_name
from tests.cuda_host.build import why_unavailable
from tests.estimators.problems import ours, problem, quietly, theirs

needs_host_build = pytest.mark.skipif(why_unavailable() is not None, reason=str(why_unavailable()))
SMALL = {"hidden_layer_sizes": (5,), "max_iter": 3, "random_state": 0, "batch_size": 64}


@pytest.fixture(params=["numpy", "cpu"])
def model(request):
    cls, X, y = problem("classes")
    fitted = quietly(ours(cls, device=request.param, **SMALL).fit, X, y)
    return SimpleNamespace(fitted=fitted, X=X, y=y)


def forward(model, X):
    """The formula, by hand."""
    (W1, W2), (b1, b2) = model.coefs_, model.intercepts_
    z = np.maximum(X @ W1 + b1, 0) @ W2 + b2
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_they_are_lists_of_arrays(model):
    for arrays in (model.fitted.coefs_, model.fitted.intercepts_):
        assert type(arrays) is list
        assert all(type(a) is np.ndarray and a.dtype == np.float64 for a in arrays)


def test_what_is_written_into_them_counts(model):
    fitted, X = model.fitted, model.X
    before = fitted.predict_proba(X)
    fitted.coefs_[0][:2] *= 3
    fitted.intercepts_[1][0] += 1
    expected = forward(fitted, X)
    assert np.abs(fitted.predict_proba(X) - before).max() > 1e-3
    np.testing.assert_allclose(fitted.predict_proba(X), expected, rtol=1e-10)


@pytest.mark.parametrize("how", ["element", "list"])
def test_arrays_put_in_their_place_count(model, how):
    fitted, X = model.fitted, model.X
    fitted.predict(X)
    if how == "element":
        fitted.coefs_[1] = 2 * fitted.coefs_[1]
    else:
        fitted.coefs_ = [W + 0.5 for W in fitted.coefs_]
        fitted.intercepts_ = [np.zeros_like(b) for b in fitted.intercepts_]
    expected = forward(fitted, X)
    np.testing.assert_allclose(fitted.predict_proba(X), expected, rtol=1e-10)
    # From then on they are the network's own again, which are not looked at for every prediction.
    own = fitted._binding.network(fitted).parameters.weights
    assert all(shown is array for shown, array in zip(fitted.coefs_, own, strict=True))
    fitted.coefs_[1][...] = 1
    expected = forward(fitted, X)
    np.testing.assert_allclose(fitted.predict_proba(X), expected, rtol=1e-10)
    fitted.partial_fit(X, model.y)
    np.testing.assert_allclose(fitted.predict_proba(X), forward(fitted, X), rtol=1e-10)


def test_wider_layers_put_in_their_place_count(model):
    fitted, X, rng = model.fitted, model.X, np.random.default_rng(0)
    fitted.coefs_ = [rng.normal(size=(8, 9)), rng.normal(size=(9, 3))]
    fitted.intercepts_ = [rng.normal(size=9), rng.normal(size=3)]
    expected = forward(fitted, X)
    np.testing.assert_allclose(fitted.predict_proba(X), expected, rtol=1e-10)


def test_arrays_of_whole_numbers_put_in_their_place_count(model):
    fitted, X = model.fitted, model.X
    fitted.coefs_ = [np.round(4 * W).astype(int) for W in fitted.coefs_]
    expected = forward(fitted, X)
    np.testing.assert_allclose(fitted.predict_proba(X), expected, rtol=1e-10)


def test_arrays_that_fit_nothing_are_refused(model):
    model.fitted.coefs_[1] = np.zeros((4, 3))
    with pytest.raises(InvalidInput, match="shape"):
        model.fitted.predict(model.X)


def test_another_device_or_precision_is_used_from_the_next_call_on(model):
    fitted, X = model.fitted, model.X
    exact = fitted.predict_proba(X)
    single = fitted.set_params(precision="float32").predict_proba(X)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, exact, rtol=1e-5)
    assert fitted.coefs_[0].dtype == np.float64
    np.testing.assert_array_equal(fitted.set_params(precision=None).predict_proba(X), exact)
    other = {"numpy": "cpu", "cpu": "numpy"}[fitted.device]
    np.testing.assert_allclose(fitted.set_params(device=other).predict_proba(X), exact, rtol=1e-12)


def test_the_activation_is_read_at_each_call(model):
    """As scikit-learn's is."""
    a = quietly(theirs("MLPClassifier", **SMALL).fit, model.X, model.y)
    for fitted in (a, model.fitted):
        fitted.set_params(activation="tanh")
    np.testing.assert_allclose(
        model.fitted.predict_proba(model.X), a.predict_proba(model.X), rtol=1e-9
    )


@pytest.mark.parametrize("kind", ["classes", "binary", "labels"])
def test_labels_on_a_gpu_are_those_of_the_host(kind):
    """The same expressions, run on NumPy's arrays in place of CuPy's."""
    cls, X, y = problem(kind)
    model = quietly(ours(cls, **SMALL).fit, X, y)
    outputs = model._binding.network(model).forward(X)
    np.testing.assert_array_equal(model._codes(outputs), model.predict(X))


class OnGPU:
    shape, ndim, dtype = (4, 8), 2, np.dtype(np.float64)

    @property
    def __cuda_array_interface__(self):
        return {"shape": (4, 8), "typestr": "<f8", "data": (0, False), "version": 3}


def test_the_processor_refuses_arrays_of_a_gpu(model):
    message = "^X lives on a GPU; use device='cuda' or copy it to the host$"
    for call in (model.fitted.predict, model.fitted.predict_proba):
        with pytest.raises(InvalidInput, match=message):
            call(OnGPU())
    with pytest.raises(InvalidInput, match=message):
        model.fitted.fit(OnGPU(), [0, 1, 0, 1])


def test_a_device_that_cannot_be_had():
    cls, X, y = problem("classes")
    if "cuda" in mlp.available_backends() and mlp.available_backends()["cuda"] == "usable":
        pytest.skip("there is a GPU")
    model = ours(cls, device="cuda")
    with pytest.raises(BackendUnavailable, match=r"CuPy|CUDA|GPU"):
        model.fit(X, y)
    assert not hasattr(model, "coefs_")
    with pytest.raises(BackendUnavailable, match="precision 'float16' is not available"):
        ours(cls, device="cpu", precision="float16").fit(X, y)


# --- the GPU's backend, with its kernels run on the host ------------------------------------------


@pytest.fixture(scope="module")
def on_gpu():
    """What was fitted there, and what it answered."""
    cls, X, y = problem("classes")
    made = SimpleNamespace(X=X, y=y, here=quietly(theirs(cls, **SMALL).fit, X, y))
    with device_name(ON_HOST):
        import cupy

        def put(values):
            array = cupy.empty(values.shape, values.dtype)
            array.set(np.ascontiguousarray(values))
            return array

        made.there = quietly(ours(cls, device="cuda", **SMALL).fit, X, y)
        made.from_there = quietly(
            ours(cls, device="cuda", **SMALL).fit, put(X), put(y), put(0 * y + 1.0)
        )
        made.early = quietly(ours(cls, device="cuda", early_stopping=True, **SMALL).fit, put(X), y)
        made.flags = [a.flags.writeable for a in made.there.coefs_ + made.there.intercepts_]
        answer = made.there.predict_proba(put(X))
        made.kind, made.probabilities = type(answer), answer.get()
        with pytest.raises(ValueError, match="X has 7 features, but MLPClassifier is expecting 8"):
            made.there.predict_proba(put(X[:, :7]))
        made.network = made.there._binding.network(made.there)
        made.pickled = pickle.dumps(made.there)
        made.there.partial_fit(X, y)
        made.array = cupy.ndarray
        made.continued = [W.copy() for W in made.there.coefs_]
    return made


@needs_host_build
def test_fitted_on_a_gpu(on_gpu):
    expected = on_gpu.here.loss_curve_
    for model in (on_gpu.there, on_gpu.from_there):
        np.testing.assert_allclose(model.loss_curve_[:3], expected, rtol=0, atol=1e-11)
    assert not any(on_gpu.flags)
    cls = {**SMALL, "early_stopping": True}
    a = quietly(theirs("MLPClassifier", **cls).fit, on_gpu.X, on_gpu.y)
    assert on_gpu.early.validation_scores_ == pytest.approx(a.validation_scores_)


@needs_host_build
def test_arrays_of_a_gpu_in_give_arrays_of_it_out(on_gpu):
    assert on_gpu.kind is on_gpu.array
    np.testing.assert_allclose(
        on_gpu.probabilities, on_gpu.here.predict_proba(on_gpu.X), rtol=0, atol=1e-10
    )


@needs_host_build
def test_an_estimator_of_a_gpu_loads_without_one(on_gpu):
    if mlp.available_backends()["cuda"] == "usable":
        pytest.skip("there is a GPU")
    loaded = pickle.loads(on_gpu.pickled)
    assert loaded.device == "cuda"
    with pytest.warns(UserWarning, match="device='cuda'.*cannot be had here.*uses device='cpu'"):
        found = loaded.predict_proba(on_gpu.X)
    np.testing.assert_allclose(found, on_gpu.probabilities, rtol=0, atol=1e-12)
    loaded.predict(on_gpu.X)  # it is said once
    loaded.partial_fit(on_gpu.X, on_gpu.y)  # from the GPU's optimizer state
    for W, expected in zip(loaded.coefs_, on_gpu.continued, strict=True):
        np.testing.assert_allclose(W, expected, rtol=0, atol=1e-12)
    with pytest.raises(BackendUnavailable):
        loaded.fit(on_gpu.X, on_gpu.y)
    quiet = pickle.loads(on_gpu.pickled).set_params(device="numpy")
    np.testing.assert_allclose(quiet.predict_proba(on_gpu.X), found, rtol=0, atol=1e-12)
