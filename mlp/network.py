"""A network: a spec, its parameters on a device, and what can be asked of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlp.backends import get_backend, precision_dtype
from mlp.backends.protocol import Array, Dropout, HostArray
from mlp.backpropagation import Layer, OutputLoss
from mlp.data.arrays import as_target, as_weights, to_device
from mlp.data.placing import Preprocessing, place, place_rows, size_on_host, to_check
from mlp.data.preprocessing import Standardizer
from mlp.errors import BackendUnavailable, InvalidInput, InvalidSetting, ModelFileError
from mlp.gradients import Gradients, compute_gradients
from mlp.initializers import initial_weights
from mlp.losses import Loss, get_loss
from mlp.network_state import NetworkState, read_state, write_state
from mlp.parameters import Layout, ParameterBuffer, host_copies
from mlp.random import check_seed
from mlp.spec import Dense, NetworkSpec
from mlp.summary import network_html, network_text


class Network:
    """A multi-layer perceptron of dense layers.

    Args:
        inputs: number of features of a row.
        layers: the dense layers, first to last.
        device: "auto" (a usable GPU, else the CPU), "cpu" (Numba), "numpy" (the reference), "cuda",
            "cuda:N".
        precision: "float32", "float64", or one in which matrix products round their operands to
            fewer bits and sum in float32: "bfloat16", "tf32" or "float16", as the device has them.
            Parameters and outputs are then float32.
        seed: decides the initial weights.
        threads: the most threads that the device "cpu" uses for training and prediction; None for
            as many as there are processors, or as OMP_NUM_THREADS or NUMBA_NUM_THREADS say. The
            results are the same, bit for bit, for every number.

    Attributes:
        spec: sizes and functions.
        device, precision, dtype: where and in what the network computes.
        parameters, compute: the parameters on the device, and what products read of them: the same
            buffer, or in a 16-bit precision copies that `parameters_changed` refreshes.
        preprocessing: None, or a Standardizer: then every method that takes X takes raw rows; or a
            TablePreprocessor: then it takes tables, or arrays of raw numbers if no column has text.
        target_scaler: None, or a Standardizer of target values: then every method that takes values
            takes raw ones and `predict` answers with such, while losses, gradients and `forward`
            are in units of the scaler.
        classes: None (labels are 0 to O - 1), or the label of each output: then every method that
            takes labels takes these, and `predict` answers with them.
        loss: the Loss that the network was last trained with, or None; may be set by its name.
        metadata: anything else that JSON can hold, kept in the model file.

    Raises:
        InvalidSetting: a size or name that cannot be used.
        BackendUnavailable: a device or precision that cannot be had here.

    >>> net = Network(2, [Dense(3, "tanh"), Dense(1)], device="numpy", precision="float64")
    >>> net.forward([[0.0, 0.0], [1.0, -1.0]]).shape
    (2, 1)
    """

    def __init__(
        self,
        inputs: int,
        layers: Iterable[Dense],
        *,
        device: str = "auto",
        precision: str = "float32",
        seed: int = 0,
        threads: int | None = None,
    ) -> None:
        self._allocate(NetworkSpec.of(inputs, layers), device, precision, seed, threads)
        widths = self.spec.widths
        self.set_parameters(
            [
                initial_weights(
                    layer.initializer, layer.activation, self.seed, i, *widths[i : i + 2]
                )
                for i, layer in enumerate(self.spec.layers)
            ],
            [np.zeros(layer.units) for layer in self.spec.layers],
        )

    def _allocate(
        self, spec: NetworkSpec, device: str, precision: str, seed: int, threads: int | None
    ) -> None:
        """Everything but the values of the parameters."""
        self.spec = spec
        self.seed = check_seed(seed)
        self.backend = get_backend(device, precision, threads)
        self.dtype = precision_dtype(precision)
        self.precision = precision
        self.preprocessing: Preprocessing | None = None
        self.target_scaler: Standardizer | None = None
        self._classes: tuple[Any, ...] | None = None
        self._loss: Loss | None = None
        self.metadata: dict[str, Any] = {}
        compute_dtype = self.backend.compute_dtype(self.dtype)
        smallest = min(self.dtype, compute_dtype, key=lambda dtype: dtype.itemsize)
        self.layout = Layout.of(spec, smallest)
        self.parameters = self.compute = ParameterBuffer(self.backend, self.layout, self.dtype)
        if compute_dtype != self.dtype:
            self.compute = ParameterBuffer(self.backend, self.layout, compute_dtype)
        self._predict = self.backend.predictor(self.layers(), self.parameters.flat)

    @property
    def device(self) -> str:
        return self.backend.device

    def __repr__(self) -> str:
        shape = " → ".join(
            [str(self.spec.inputs), *(f"{d.units} {d.activation}" for d in self.spec.layers)]
        )
        count = self.spec.parameter_count
        return f"Network({shape}; {count:,} parameters, {self.precision} on {self.device})"

    def summary(self) -> str:
        """A table: each layer's activation, shape, parameters, FLOPs per row forward, memory."""
        return network_text(self)

    def _repr_html_(self) -> str:
        return network_html(self)

    @property
    def classes(self) -> tuple[Any, ...] | None:
        """The label of each output, or of the two sides of a single sigmoid output; None for none.

        Raises:
            InvalidSetting: on setting another number of labels.
        """
        return self._classes

    @classes.setter
    def classes(self, labels: Iterable[Any] | None) -> None:
        given = None if labels is None else tuple(labels)
        wanted = max(self.spec.outputs, 2)
        if given is not None and len(given) != wanted:
            raise InvalidSetting(f"classes must hold {wanted} labels, not {len(given)}")
        self._classes = given

    @property
    def loss(self) -> Loss | None:
        """The Loss that the network was last trained with, or None."""
        return self._loss

    @loss.setter
    def loss(self, loss: str | Loss | None) -> None:
        self._loss = None if loss is None else get_loss(loss)

    # --- parameters -----------------------------------------------------------------------------

    @property
    def weights(self) -> tuple[HostArray, ...]:
        """Host copies of W (I, O) per layer; read-only, since `set_parameters` changes them."""
        return host_copies(self.backend, self.parameters.weights, self.dtype)

    @property
    def biases(self) -> tuple[HostArray, ...]:
        """Host copies of b (O,) per layer; read-only, since `set_parameters` changes them."""
        return host_copies(self.backend, self.parameters.biases, self.dtype)

    def set_parameters(self, weights: Sequence[Any], biases: Sequence[Any]) -> None:
        """Replaces all weights (I, O) and biases (O,), converting them to the network's dtype.

        Raises:
            InvalidInput: a wrong number of arrays, a wrong shape, or a value that is not finite;
                the network is then unchanged.
        """
        checked = []
        for kind, given, own in (
            ("weights", weights, self.parameters.weights),
            ("biases", biases, self.parameters.biases),
        ):
            if len(given) != len(own):
                raise InvalidInput(f"{kind} has {len(given)} arrays for {len(own)} layers")
            for i, (new, view) in enumerate(zip(given, own, strict=True)):
                try:
                    array = np.asarray(new, dtype=np.float64)
                except (TypeError, ValueError):
                    raise InvalidInput(f"{kind}[{i}] is not an array of numbers") from None
                if array.shape != view.shape:
                    raise InvalidInput(f"{kind}[{i}] has shape {array.shape}, not {view.shape}")
                checked.append((to_device(array, self.backend, self.dtype, f"{kind}[{i}]"), view))
        for array, view in checked:
            self.backend.copy(array, view)
        self.parameters_changed()

    def parameters_changed(self) -> None:
        """To be called when `parameters` were written: refreshes the copies that products read."""
        if self.compute is not self.parameters:
            self.backend.copy(self.parameters.flat, self.compute.flat)

    # --- passes ---------------------------------------------------------------------------------

    def layers(
        self, gradients: ParameterBuffer | None = None, counters: Array = None
    ) -> list[Layer]:
        """The layers' arrays, for `mlp.backpropagation`.

        Args:
            gradients: where a backward pass writes; None for forward passes only.
            counters: the backend's counters array for a training pass, in which dropout applies.
        """
        return [
            Layer(
                W=self.compute.weights[i],
                b=self.parameters.biases[i],
                activation=layer.activation,
                dropout=(
                    Dropout(layer.dropout, i, counters)
                    if layer.dropout and counters is not None
                    else None
                ),
                dW=gradients.weights[i] if gradients else None,
                db=gradients.biases[i] if gradients else None,
            )
            for i, layer in enumerate(self.spec.layers)
        ]

    def rows_to_device(self, X: Any, name: str = "X", *, borrow: bool = False) -> Array:
        """X checked, prepared if the network has that, and on the device: (N, I).

        With `borrow` it may be X itself, and must not be written.
        """
        return place_rows(
            X, self.spec.inputs, self.preprocessing, self.backend, self.dtype, name, borrow=borrow
        )

    def check_target(self, y: Any, rows: int, loss: Loss, name: str = "y") -> HostArray:
        """`y` checked against the loss: labels (N,) int64, or numbers (N, O) float64, scaled."""
        given = to_check(y, self.backend)
        target = as_target(given, rows, self.spec.outputs, loss, self.classes, name)
        if self.target_scaler is not None and loss.targets == "values":
            return self.target_scaler.transform(target)
        return target

    def target_to_device(self, y: Any, rows: int, loss: Loss, name: str = "y") -> Array:
        """`y` checked against the loss and on the device: labels (N,) int64 or numbers (N, O)."""
        return self.checked_target_to_device(self.check_target(y, rows, loss, name), name, given=y)

    def checked_target_to_device(
        self, target: HostArray, name: str = "y", given: Any = None
    ) -> Array:
        """What `check_target` returned of `given`, on the device."""
        return place(target, given, self.backend, self.dtype, name)

    def check_weight(self, weight: Any, rows: int, name: str = "sample_weight") -> HostArray | None:
        """Sample weights checked: (N,) float64, or None."""
        checked = as_weights(to_check(weight, self.backend), rows, name)
        if checked is not None and not checked.astype(self.dtype).any():
            raise InvalidInput(f"{name} is 0 everywhere in {self.dtype}: scale it up")
        return checked

    def weight_to_device(self, weight: Any, rows: int, name: str = "sample_weight") -> Array | None:
        """Sample weights checked and on the device (N,), or None."""
        checked = self.check_weight(weight, rows, name)
        if checked is None:
            return None
        return place(checked, weight, self.backend, self.dtype, name)

    def forward(self, X: Any) -> HostArray:
        """Output activations (N, O) of rows X (N, I) or of one row (I,), which counts as (1, I).

        Raises:
            InvalidInput: X is empty, ragged, not finite or of the wrong width.
        """
        size = size_on_host(X, self.dtype, self.spec.inputs)
        if not self.backend.has_room_for(size) and len(X) > 1:
            half = len(X) // 2
            return np.concatenate([self.forward(X[:half]), self.forward(X[half:])])
        return self.backend.to_host(self.forward_on_device(X))

    def forward_on_device(self, X: Any) -> Array:
        """`forward` without the copy to the host: output activations (N, O) on the device."""
        rows = self.rows_to_device(X, borrow=True)
        out = self.backend.empty((len(rows), self.spec.outputs), self.dtype)
        self._predict(rows, out)
        self.backend.synchronize()  # who reads it next may use another stream
        return out

    def gradients(self, X: Any, y: Any, loss: str | Loss, sample_weight: Any = None) -> Gradients:
        """Loss, gradients and everything on the way to them, for one batch, without dropout.

        Args:
            X: rows (B, I), or one row (I,).
            y: targets as the loss takes them: labels (B,), or numbers (B, O).
            loss: a name from `mlp.losses.LOSSES`, or a Loss.
            sample_weight: (B,) or None.

        Raises:
            InvalidInput: X, y or the weights cannot be used.
            InvalidSetting: the loss is unknown or does not fit the output activation.
        """
        chosen = get_loss(loss)
        joined = OutputLoss.of(chosen, self.spec.output_activation)
        rows = self.rows_to_device(X)
        target = self.target_to_device(y, len(rows), chosen)
        weight = self.weight_to_device(sample_weight, len(rows))
        buffer = ParameterBuffer(self.backend, self.layout, self.dtype)
        return compute_gradients(
            self.backend, self.spec, self.layers(buffer), buffer, joined, rows, target, weight
        )

    def predict(self, X: Any) -> HostArray:
        """Predictions for rows X (N, I), or for one row.

        Softmax outputs give the label of the largest, (N,). Sigmoid outputs give labels too, unless
        the network was trained with a regression loss: one output gives (N,), the second label
        where a >= 0.5; several give (N, O) of 0 and 1. All others give values, (N,) for one output
        and (N, O) for several; after training with the Poisson loss these are expected counts,
        exp(a).
        """
        a = self.forward(X)
        kind = self.spec.output_activation
        if kind == "softmax":
            return self._labels(a.argmax(axis=1))
        if kind == "sigmoid" and (self.loss is None or self.loss.targets in ("classes", "unit")):
            on = (a >= 0.5).astype(np.int64)
            return self._labels(on[:, 0]) if self.spec.outputs == 1 else on
        if self.loss is not None and self.loss.targets == "counts":
            a = np.exp(a)
        elif self.target_scaler is not None:
            a = self.target_scaler.inverse(a)
        return a[:, 0] if self.spec.outputs == 1 else a

    def _labels(self, codes: HostArray) -> HostArray:
        return codes if self.classes is None else np.asarray(self.classes)[codes]

    # --- files and copies -----------------------------------------------------------------------

    def state(self) -> NetworkState:
        """All that the network is, on the host."""
        return NetworkState(
            self.spec, self.precision, self.seed, self.weights, self.biases,
            self.preprocessing, self.target_scaler, self.classes, self.loss, self.metadata,
        )  # fmt: skip

    @classmethod
    def from_state(
        cls,
        state: NetworkState,
        device: str = "auto",
        threads: int | None = None,
        precision: str | None = None,
    ) -> Network:
        """A network of its own, on a device, with everything that `state` holds.

        Args:
            precision: None for the state's.

        Raises:
            BackendUnavailable: the device, or the precision on it, cannot be had.
        """
        network = cls.__new__(cls)
        network._allocate(state.spec, device, precision or state.precision, state.seed, threads)
        network.set_parameters(state.weights, state.biases)
        network.preprocessing, network.target_scaler = state.preprocessing, state.target_scaler
        network.classes = state.classes
        network.loss, network.metadata = state.loss, dict(state.metadata)
        return network

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies and pickles carry host arrays: views of one flat buffer would come apart.
        return Network.from_state, (self.state(), self.device)

    def save(self, path: str | Path) -> None:
        """Writes the network to a safetensors file: weights, spec, preprocessing, labels, loss.

        Raises:
            ModelFileError: the weights are not finite, or the file cannot be written; an older
                file of that name is then intact.
        """
        write_state(Path(path), self.state())


def load(
    path: str | Path,
    device: str = "auto",
    threads: int | None = None,
    precision: str | None = None,
) -> Network:
    """The network of a file that `Network.save` wrote, on a device.

    Args:
        device, threads: as `Network` takes them.
        precision: None for the one that the file states.

    Raises:
        ModelFileError: missing, damaged, or not such a file.
        BackendUnavailable: the device, or the precision on it, cannot be had.
    """
    # What is wrong with the device is no fault of the file.
    get_backend(device, precision or "float32", threads)
    state = read_state(Path(path))
    try:
        if precision is None:
            _require_precision_of(path, state.precision, device, threads)
        return Network.from_state(state, device, threads, precision)
    except (InvalidInput, InvalidSetting) as error:
        raise ModelFileError(f"{path}: the model file is damaged: {error}") from None


def _require_precision_of(
    path: str | Path, precision: str, device: str, threads: int | None
) -> None:
    try:
        get_backend(device, precision, threads)
    except BackendUnavailable as error:
        raise BackendUnavailable(
            f'{path}: {error}; to use the model here, load it with precision="float32"'
        ) from error
