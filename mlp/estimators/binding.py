"""The network behind an estimator, and the arrays that the estimator shows of it."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import numpy as np

from mlp.backends import get_backend, precision_dtype
from mlp.backends.protocol import HostArray
from mlp.errors import BackendUnavailable
from mlp.estimators.objective import OUTPUT_ACTIVATIONS
from mlp.estimators.settings import hidden_layers
from mlp.network import Network
from mlp.network_state import NetworkState
from mlp.spec import Dense, NetworkSpec


class Binding:
    """Joins `coefs_` and `intercepts_` of an estimator to a network that computes with them.

    On the processor the arrays are views of the network's own parameters. On a GPU they are copies
    that cannot be written. Arrays that the user puts in their place are noticed by their identity,
    and the network takes their values before it is used again.

    Args:
        restored: whether the estimator comes from a pickle: then a device or precision that cannot
            be had here is replaced, with a warning.
    """

    def __init__(self, *, restored: bool = False) -> None:
        self.restored = restored
        self._network: Network | None = None
        self._settings: tuple[Any, ...] = ()
        self._shown: list[HostArray] = []
        self._lock = threading.RLock()

    def network(self, estimator: Any) -> Network:
        """The network with the estimator's present settings and arrays.

        Raises:
            BackendUnavailable: the device, or the precision on it, cannot be had.
            InvalidInput: arrays that fit no network.
        """
        with self._lock:
            settings = (
                estimator.device, estimator.precision or _precision_of(estimator.coefs_[0]),
                estimator.threads,
                _comparable(estimator.activation), _comparable(estimator.dropout),
            )  # fmt: skip
            arrays = [*estimator.coefs_, *estimator.intercepts_]
            same = len(arrays) == len(self._shown) and all(
                new is old for new, old in zip(arrays, self._shown, strict=True)
            )
            if self._network is None or settings != self._settings or not self._fits(arrays):
                self._network, self._settings = self._make(estimator, settings), settings
                self.show(estimator)
            elif not same:
                self._network.set_parameters(estimator.coefs_, estimator.intercepts_)
                self.show(estimator)
            return self._network

    def _fits(self, arrays: list[HostArray]) -> bool:
        return [np.shape(a) for a in arrays] == [a.shape for a in self._shown]

    def show(self, estimator: Any) -> None:
        """Has the estimator's lists hold what the network's parameters are."""
        network = self._network
        assert network is not None
        coefs, intercepts = estimator.coefs_, estimator.intercepts_
        if network.backend.name == "cuda":
            coefs[:], intercepts[:] = network.weights, network.biases
        elif all(a.dtype == network.dtype for a in (*coefs, *intercepts)):
            coefs[:], intercepts[:] = network.parameters.weights, network.parameters.biases
        # Else a prediction in another precision: the arrays stay as exact as they are.
        self._shown = [*coefs, *intercepts]

    def _make(self, estimator: Any, settings: tuple[Any, ...]) -> Network:
        device, precision, threads = settings[:3]
        if self.restored:
            device, precision, threads = _usable(device, precision, threads)
        coefs, intercepts = tuple(estimator.coefs_), tuple(estimator.intercepts_)
        state = NetworkState(spec_of(estimator), precision, 0, coefs, intercepts)
        return Network.from_state(state, device, threads)


def spec_of(estimator: Any) -> NetworkSpec:
    """The network of a fitted estimator, as data."""
    units = [np.shape(b)[0] for b in estimator.intercepts_]
    layers = hidden_layers(estimator, units[:-1])
    output = Dense(units[-1], OUTPUT_ACTIVATIONS[estimator.out_activation_])
    return NetworkSpec.of(int(np.shape(estimator.coefs_[0])[0]), [*layers, output])


def _precision_of(weights: Any) -> str:
    """What arrays are computed with where the user asks for nothing."""
    return "float32" if np.asarray(weights).dtype == np.float32 else "float64"


def _comparable(value: Any) -> Any:
    """A parameter as something that can be compared with ==: lists and arrays as tuples."""
    return value if isinstance(value, str | float | int) else tuple(value)


def _usable(device: str, precision: str, threads: int | None) -> tuple[str, str, int | None]:
    """What a model from elsewhere can be used with here, and a warning where that is another."""
    try:
        get_backend(device, precision, threads)
    except BackendUnavailable as error:
        wanted = f"device={device!r}, precision={precision!r}"
        dtype = str(precision_dtype(precision))
        for other_device, other_precision in (
            (device, dtype), ("auto", precision), ("auto", dtype),
        ):  # fmt: skip
            try:
                backend = get_backend(other_device, other_precision)
            except BackendUnavailable:
                continue
            warnings.warn(
                f"the estimator was made for {wanted}, which cannot be had here ({error}); it "
                f"uses device='{backend.device}', precision='{other_precision}'. Use "
                "set_params to choose others",
                UserWarning,
                stacklevel=2,
            )
            return other_device, other_precision, None
        raise
    return device, precision, threads
