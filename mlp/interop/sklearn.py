"""Networks to and from scikit-learn's fitted MLPClassifier and MLPRegressor."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Real
from typing import Any

import numpy as np

from mlp.backends.protocol import HostArray
from mlp.data.preprocessing import Standardizer
from mlp.errors import InvalidInput, InvalidSetting
from mlp.interop.answers import Kind, counts, kind_of, value_scaler
from mlp.losses import LOSSES
from mlp.network import Network
from mlp.network_state import NetworkState
from mlp.spec import Dense, NetworkSpec

# scikit-learn's names for our activations.
ACTIVATION_OF = {"identity": "identity", "logistic": "sigmoid", "tanh": "tanh", "relu": "relu"}
SKLEARN_NAME = {ours: theirs for theirs, ours in ACTIVATION_OF.items()}


def from_sklearn(estimator: Any, *, device: str = "auto", precision: str | None = None) -> Network:
    """The network of a fitted MLPClassifier or MLPRegressor, scikit-learn's or ours.

    Args:
        estimator: it, or a Pipeline of a StandardScaler and it, whose scaling the network then
            does.
        device: as `Network` takes it.
        precision: None for that of the fitted weights: float64 or float32.

    Raises:
        InvalidInput: something else, or not fitted.
        InvalidSetting: an unknown activation.
    """
    scaler, fitted = _take_apart(estimator)
    if not (hasattr(fitted, "coefs_") and hasattr(fitted, "out_activation_")):
        raise InvalidInput(f"{type(fitted).__name__} is not a fitted MLPClassifier or MLPRegressor")
    weights, biases = tuple(fitted.coefs_), tuple(fitted.intercepts_)
    output, loss = _output(fitted)
    hidden = range(len(weights) - 1)
    names = [*_per_layer(fitted.activation, hidden), output]
    rates = [*_per_layer(getattr(fitted, "dropout", 0.0), hidden), 0.0]
    layers = [
        Dense(len(b), ACTIVATION_OF.get(name, name), rate)
        for b, name, rate in zip(biases, names, rates, strict=True)
    ]
    spec = NetworkSpec.of(len(weights[0]), layers)
    own = "float32" if weights[0].dtype == np.float32 else "float64"
    labels = getattr(fitted, "classes_", None)
    several = output == "sigmoid" and spec.outputs > 1  # their labels are 0 and 1 each
    classes = None if labels is None or several else tuple(np.asarray(labels).tolist())
    return Network.from_state(
        NetworkState(
            spec,
            precision or own,
            0,
            weights,
            biases,
            _standardizer(scaler),
            None,
            classes,
            LOSSES[loss](),
        ),
        device,
    )


def _per_layer(given: Any, layers: Iterable[int]) -> list[Any]:
    """One for each hidden layer: scikit-learn has one for all, our estimators also take a list."""
    one = isinstance(given, str | Real)
    return [given if one else given[i] for i in layers]


def _output(fitted: Any) -> tuple[str, str]:
    """Our output activation and loss. exp(a), as after the Poisson loss, is up to `predict`."""
    if hasattr(fitted, "classes_"):
        if fitted.out_activation_ == "softmax":
            return "softmax", "cross_entropy"
        return "sigmoid", "binary_cross_entropy"
    return "identity", "poisson" if fitted.out_activation_ == "exp" else "half_squared_error"


def _take_apart(estimator: Any) -> tuple[Any, Any]:
    """The StandardScaler that a Pipeline begins with, or None; and the MLP."""
    if not hasattr(estimator, "steps"):
        return None, estimator
    parts = [step for _, step in estimator.steps if step not in (None, "passthrough")]
    names = [type(part).__name__ for part in parts]
    if len(parts) == 1:
        return None, parts[0]
    if len(parts) == 2 and names[0] == "StandardScaler":
        return parts[0], parts[1]
    raise InvalidInput(
        f"a Pipeline of a StandardScaler and an MLP can be read, not one of {', '.join(names)}"
    )


def _standardizer(scaler: Any) -> Standardizer | None:
    if scaler is None:
        return None
    width = scaler.n_features_in_
    mean = scaler.mean_ if scaler.with_mean else np.zeros(width)
    scale = scaler.scale_ if scaler.with_std else np.ones(width)
    return Standardizer(np.asarray(mean, np.float64), np.asarray(scale, np.float64))


def to_sklearn(model: Any) -> Any:
    """A fitted scikit-learn estimator that predicts what a network does.

    Its `predict` and `predict_proba` do not need this package, and it can be pickled. It is made to
    predict: `fit` trains it anew with scikit-learn's default settings, and `partial_fit` is not
    supported, since there is no optimizer's state to go on from.

    Args:
        model: a Network, or what `from_sklearn` takes: a fitted estimator of ours.

    Returns:
        An MLPClassifier or MLPRegressor, in a Pipeline behind a StandardScaler if the network
        standardises. Its classes, and the columns of `predict_proba`, are sorted, as scikit-learn
        has them. A softmax of two classes becomes the single logistic output that scikit-learn has
        for two; a target scaler becomes part of the last layer.

    Raises:
        InvalidSetting: what scikit-learn's estimators lack: other hidden activations than identity,
            logistic (sigmoid), tanh and relu, different ones in different layers, other outputs, or
            a table's columns.
    """
    network = model if isinstance(model, Network) else from_sklearn(model, device="numpy")
    kind = kind_of(network)
    hidden = {layer.activation for layer in network.spec.layers[:-1]} or {"identity"}
    if len(hidden) > 1:
        raise InvalidSetting(
            "scikit-learn's MLP has one activation for all hidden layers, and the network has "
            f"{' and '.join(sorted(hidden))}"
        )
    (name,) = hidden
    if name not in SKLEARN_NAME:
        raise InvalidSetting(
            f"scikit-learn's MLP lacks the activation '{name}'; it has identity, "
            "logistic (sigmoid), tanh and relu"
        )
    weights, biases = _parameters(network, kind)
    made = _estimator(network, kind, SKLEARN_NAME[name], [len(b) for b in biases[:-1]])
    made.coefs_, made.intercepts_ = weights, biases
    made.n_layers_, made.n_outputs_ = len(weights) + 1, len(biases[-1])
    made.n_features_in_ = network.spec.inputs
    made.n_iter_ = made.t_ = 0
    return _behind_scaler(network, made)


def _parameters(network: Network, kind: Kind) -> tuple[list[HostArray], list[HostArray]]:
    weights, biases = [W.copy() for W in network.weights], [b.copy() for b in network.biases]
    order = np.argsort(_labels(network))
    if kind == "classes":
        if network.spec.outputs == 1:
            raise InvalidSetting("scikit-learn has no classifier of one class, as this softmax is")
        weights[-1], biases[-1] = weights[-1][:, order], biases[-1][order]
    if kind == "two_classes" and order[0] == 1:
        weights[-1], biases[-1] = -weights[-1], -biases[-1]  # 1 - sigmoid(z) = sigmoid(-z)
    if kind == "classes" and network.spec.outputs == 2:
        # softmax(z)_1 = 1 / (1 + exp(z_0 - z_1))
        weights[-1] = weights[-1][:, 1:] - weights[-1][:, :1]
        biases[-1] = biases[-1][1:] - biases[-1][:1]
    scaler = value_scaler(network)
    if scaler is not None:
        weights[-1] = (weights[-1] * scaler.scale).astype(network.dtype)
        biases[-1] = (biases[-1] * scaler.scale + scaler.mean).astype(network.dtype)
    return weights, biases


def _estimator(network: Network, kind: Kind, activation: str, hidden: list[int]) -> Any:
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    settings = {"hidden_layer_sizes": tuple(hidden), "activation": activation}
    if kind == "values":
        if network.spec.output_activation != "identity":
            raise InvalidSetting(
                "scikit-learn's MLPRegressor has no output activation, and the network has "
                f"'{network.spec.output_activation}'"
            )
        if counts(network) and "loss" not in MLPRegressor().get_params():
            raise InvalidSetting("the Poisson loss needs scikit-learn 1.7 or newer")
        made = MLPRegressor(**settings, **({"loss": "poisson"} if counts(network) else {}))
        made.out_activation_ = "exp" if counts(network) else "identity"
        return made
    made = MLPClassifier(**settings)
    made._label_binarizer = _label_binarizer(network, kind)
    made.classes_ = made._label_binarizer.classes_
    multiclass = kind == "classes" and network.spec.outputs > 2
    made.out_activation_ = "softmax" if multiclass else "logistic"
    return made


def _label_binarizer(network: Network, kind: Kind) -> Any:
    """As MLPClassifier.fit makes it."""
    from sklearn.preprocessing import LabelBinarizer

    outputs = network.spec.outputs
    if kind == "labels":
        return LabelBinarizer().fit(np.vstack([np.zeros(outputs, int), np.ones(outputs, int)]))
    return LabelBinarizer().fit(_labels(network))


def _labels(network: Network) -> HostArray:
    count = max(network.spec.outputs, 2)
    labels = np.arange(count) if network.classes is None else np.asarray(network.classes)
    if labels.dtype.kind == "f" and (labels != np.floor(labels)).any():
        raise InvalidSetting("scikit-learn takes no fractions as class labels")
    return labels


def _behind_scaler(network: Network, made: Any) -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    found = network.preprocessing
    if found is None:
        return made
    if not isinstance(found, Standardizer):
        raise InvalidSetting(
            "scikit-learn's MLP takes numbers, and the network takes a table's columns; set its "
            "preprocessing to None, and pass what network.preprocessing.transform(table) returns"
        )
    scaler = StandardScaler()
    scaler.mean_, scaler.scale_ = found.mean.copy(), found.scale.copy()
    scaler.var_ = np.square(found.scale)
    scaler.n_features_in_ = network.spec.inputs
    scaler.n_samples_seen_ = 0
    return make_pipeline(scaler, made)
