"""The CUDA backend: the operations of the contract as launches of our own kernels."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import numpy as np

from mlp.backends.cuda.capture import CapturedSteps
from mlp.backends.cuda.choices import Choices
from mlp.backends.cuda.device import CudaDevice
from mlp.backends.cuda.narrow import Chains
from mlp.backends.cuda.predict import Predictor
from mlp.backends.cuda.products import Products
from mlp.backends.cuda.rules import Rules
from mlp.backends.cuda.stream import RowStream
from mlp.backends.protocol import Array, Dropout, HostArray, PenaltySteps, Run
from mlp.backends.row_stream import EpochRows
from mlp.errors import BackendUnavailable, InvalidInput
from mlp.random import dropout_threshold
from mlp_kernels.cuda import (
    activations,
    columns,
    control,
    convert,
    gather,
    losses,
    optimizers,
    products,
    shuffle,
    softmax,
    tiles,
)
from mlp_kernels.cuda.compile import TENSOR_CORES
from mlp_kernels.cuda.launch import Launch, Work

# Set to 1, tiles of warpgroups are taken where they fit. Until they have run on a device they are
# not taken by themselves.
WARPGROUPS_VARIABLE = "MLP_CUDA_WARPGROUPS"
# How much of what is free the training rows may take: batches and evaluation need the rest.
SHARE_OF_ROWS = 0.7
SMALL_SHARE = 0.01  # of all memory

F = TypeVar("F", bound=Callable[..., Any])

# precision -> what products read; others read the dtype of the parameters. NumPy has no bfloat16:
# the bits of one are a uint16 here.
COMPUTE: dict[str, np.dtype[Any]] = {
    "bfloat16": np.dtype(np.uint16),
    "float16": np.dtype(np.float16),
}


def _explained(operation: F) -> F:
    """The operation, with what a launch raises over types, shapes and names made an MLPError."""

    @functools.wraps(operation)
    def call(*arguments: Any, **named: Any) -> Any:
        try:
            with arguments[0].on.lock:  # no other thread's launches in between
                return operation(*arguments, **named)
        except (AttributeError, TypeError, ValueError) as error:
            if isinstance(error, InvalidInput):
                raise
            raise InvalidInput(f"{operation.__name__}: {error}") from error

    return cast(F, call)


class DeviceRoom:
    """Memory for what one launch leaves to its last block: it grows, and is used over and over.

    What a launch was given stays valid, since recorded launches hold their arrays.
    """

    def __init__(self, device: CudaDevice) -> None:
        self._device = device
        self._arrays: dict[np.dtype[Any], Array] = {}

    def numbers(self, count: int, dtype: Any) -> Array:
        return self._room(max(count, 1), np.dtype(dtype), self._device.empty)

    def tickets(self, count: int) -> Array:
        return self._room(max(count, 1), np.dtype(np.uint32), self._device.zeros)

    def _room(self, count: int, dtype: np.dtype[Any], allocate: Callable[..., Array]) -> Array:
        if dtype not in self._arrays or self._arrays[dtype].size < count:
            self._arrays.pop(dtype, None)  # given back before more is asked for
            self._arrays[dtype] = allocate((count,), dtype)
        return self._arrays[dtype][:count]


class CupyBackend(Rules):
    """See `mlp.backends.protocol.Backend` for what each operation does.

    Args:
        number: of the device.
        precision: how products are made; see `mlp.backends`.

    Raises:
        BackendUnavailable: the device, or the precision on it, cannot be had.
    """

    name = "cuda"
    threads = 1  # of the processor
    # Small networks' steps by "graph" or many in one launch, "persistent"; None: what is faster.
    tiny_steps: str | None = None
    # Whether runs of narrow layers are one kernel forward, and one back, where that is possible.
    fused_chain = True

    def __init__(self, number: int = 0, precision: str = "float32") -> None:
        self.on = CudaDevice(number)
        self.device = f"cuda:{number}" if number else "cuda"
        capability = ".".join(map(str, self.on.capability))
        self.about: str | None = f"{self.on.name}, compute capability {capability}"
        if precision == "tf32" and self.on.capability < TENSOR_CORES:
            raise BackendUnavailable(
                f"precision 'tf32' needs compute capability 8.0 or newer, and device {number} has "
                f"{capability}; use precision 'float32'"
            )
        self._compute = COMPUTE.get(precision)
        self._tiles = tiles.Device(
            self.on.capability,
            self.on.processors,
            tf32=precision == "tf32",
            shared=self.on.shared_bytes,
            warpgroups=_wants_warpgroups(number, self.on.capability),
        )
        self._room = DeviceRoom(self.on)
        self.choices = Choices(self.on, ("warpgroups",) if self._tiles.warpgroups else ())
        self.products = Products(
            self.on, self._tiles, self._room, lambda: DeviceRoom(self.on), self.choices
        )
        self._keys: Array | None = None

    def _run(self, *launches: Work) -> None:
        for launch in launches:
            self.on.submit(launch)

    def compute_dtype(self, dtype: Any) -> np.dtype[Any]:
        parameters: np.dtype[Any] = np.dtype(dtype)
        if self._compute is not None and parameters == np.float32:
            return self._compute
        return parameters

    # --- memory ---------------------------------------------------------------------------------

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        return self.on.empty(shape, dtype)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Array:
        return self.on.zeros(shape, dtype)

    def from_host(self, array: HostArray, dtype: Any) -> Array:
        if np.dtype(dtype) == np.uint16:  # bfloat16, rounded on the device
            out = self.empty(np.shape(array), dtype)
            self.copy(self.from_host(array, np.float32), out)
            return out
        host = np.ascontiguousarray(array, dtype).reshape(np.shape(array))
        out = self.empty(host.shape, dtype)
        self.on.upload(host, out)
        return out

    def borrow(self, array: HostArray, dtype: Any) -> Array:
        return self.from_host(array, dtype)

    def device_array(self, value: Any) -> Array | None:
        return self.on.own(value)

    def to_host(self, array: Array) -> HostArray:
        if array.dtype in (np.uint16, np.float16):
            single = self.empty(array.shape, np.float32)
            self.copy(array, single)
            array = single
        return self.on.download(array)

    @_explained
    def copy(self, source: Array, out: Array) -> None:
        self._run(convert.convert(source, out))

    @_explained
    def gather_rows(self, X: Array, index: Array, out: Array) -> None:
        self._run(gather.gather_rows(X, index, out))

    @_explained
    def gather_batch(self, index: Array, *pairs: tuple[Array, Array]) -> None:
        self._run(gather.gather_batch(index, *pairs))

    @_explained
    def convert_rows(
        self, X: Array, out: Array, mean: Array | None = None, scale: Array | None = None
    ) -> None:
        self._run(convert.standardise(X, out, mean, scale))

    def is_finite(self, array: Array) -> bool:
        count = self.empty((1,), np.int64)
        self._count_not_finite(array, count)
        return not self.on.download(count)[0]

    @_explained
    def _count_not_finite(self, array: Array, count: Array) -> None:
        self._run(convert.count_not_finite(array, count, self._room))

    def has_room_for(self, size: int) -> bool:
        # What is free is asked only of sizes that may matter: it takes the driver some time.
        small = size <= SMALL_SHARE * self.on.total_bytes
        return small or size <= SHARE_OF_ROWS * self.on.free_bytes

    def stream(self, rows: EpochRows, batch_size: int) -> RowStream:
        return RowStream(self, rows, batch_size)

    # --- layer ----------------------------------------------------------------------------------

    @_explained
    def linear_forward(
        self,
        x: Array,
        W: Array,
        b: Array,
        activation: str,
        a: Array,
        saved: Array | None,
        dropout: Dropout | None = None,
    ) -> None:
        drop = _numbers(dropout)
        if activation != "softmax":
            self._run(*self.products.linear_forward(x, W, b, activation, a, saved, drop))
            return
        z = self.products.linear_forward(x, W, b, "identity", a, None)
        apart = None if saved is a else saved
        self._run(*z, softmax.softmax_rows(a, a, apart, drop))

    @_explained
    def linear_delta(
        self,
        delta: Array,
        W: Array,
        saved: Array,
        activation: str,
        out: Array,
        db_prev: Array,
        dropout: Dropout | None = None,
    ) -> None:
        drop = _numbers(dropout)
        if activation != "softmax":
            self._run(*self.products.linear_delta(delta, W, saved, activation, out, db_prev, drop))
            return
        # Softmax mixes the outputs of a row, so its derivative is a pass of its own.
        self._run(
            *self.products.linear_delta(delta, W, saved, "identity", out, db_prev),
            softmax.softmax_delta(out, saved, out, drop),
            columns.column_sums(out, db_prev, self._room),
        )

    @_explained
    def linear_grads(self, x: Array, delta: Array, dW: Array, db: Array | None) -> None:
        self._run(*self.products.linear_grads(x, delta, dW))
        if db is not None:
            self._run(columns.column_sums(delta, db, self._room))

    @_explained
    def activation_delta(self, gradient: Array, saved: Array, activation: str, out: Array) -> None:
        if activation == "softmax":
            self._run(softmax.softmax_delta(gradient, saved, out))
        else:
            self._run(activations.activation_delta(gradient, saved, activation, out))

    # --- loss -----------------------------------------------------------------------------------

    @_explained
    def loss(
        self,
        form: str,
        output: Array,
        target: Array,
        weight: Array | None,
        parameter: float,
        delta: Array,
        totals: Array,
        scaling: Array | None = None,
    ) -> None:
        self._run(
            *losses.loss(
                form, output, target, weight, parameter, delta, totals, self._room, scaling
            )
        )

    # --- update ---------------------------------------------------------------------------------

    @_explained
    def _update(
        self,
        rule: optimizers.Rule,
        parameters: Array,
        gradients: Array,
        scalars: Array,
        counters: Array,
    ) -> None:
        self._run(optimizers.update(rule, parameters, gradients, scalars, counters))

    @_explained
    def unscale(self, gradients: Array, scaling: Array, scalars: Array, counters: Array) -> None:
        self._run(
            optimizers.prepare(
                gradients, gradients[:0], scalars, counters, self._room, scaling=scaling
            )
        )

    @_explained
    def penalty(
        self,
        weights: Array,
        gradients: Array,
        l1: float,
        l2: float,
        steps: PenaltySteps | None = None,
    ) -> None:
        counters = None if steps is None else steps.counters
        self._run(
            optimizers.prepare(
                gradients, weights, None, counters, self._room, l1=l1, l2=l2, **_arrays_of(steps)
            )
        )

    @_explained
    def decay(self, weights: Array, scalars: Array, weight_decay: float) -> None:
        self._run(optimizers.decay(weights, scalars, weight_decay))

    @_explained
    def clip_norm(self, gradients: Array, max_norm: float, scalars: Array) -> None:
        self._run(
            optimizers.prepare(
                gradients, gradients[:0], scalars, None, self._room, max_norm=max_norm
            )
        )

    def fused_update(self, steps: Any) -> list[Launch]:
        """What `Step.update` does, in one pass over the parameters, or two."""
        flat, terms = steps.flat, steps.regularization
        end = steps.network.layout.weights_end
        launches = []
        if steps.scaling is not None or terms.l1 or terms.l2 or terms.clip_norm is not None:
            launches.append(
                optimizers.prepare(
                    flat.gradients, flat.parameters[:end], flat.scalars, flat.counters, self._room,
                    scaling=steps.scaling, l1=terms.l1, l2=terms.l2, max_norm=terms.clip_norm,
                    **_arrays_of(steps.penalty_steps),
                )
            )  # fmt: skip
        launches.append(
            optimizers.update(
                self.rule_of(steps), flat.parameters, flat.gradients, flat.scalars, flat.counters,
                copies=flat.copies, weights_end=end, weight_decay=terms.weight_decay,
            )
        )  # fmt: skip
        return launches

    # --- control --------------------------------------------------------------------------------

    @_explained
    def begin_epoch(
        self,
        counters: Array,
        totals: Array,
        order: Array,
        rates: Array,
        epoch: int,
        new_rates: HostArray,
    ) -> None:
        self.on.upload(np.ascontiguousarray(new_rates, np.float64), rates)
        needed = shuffle.keys_needed(order.size)
        if needed and (self._keys is None or self._keys.size < needed):
            self._keys = self.empty((needed,), np.uint64)
        self._run(
            control.begin_epoch(counters, totals),
            *shuffle.shuffle(counters, epoch, order, self._keys if needed else None),
        )

    @_explained
    def begin_step(
        self,
        counters: Array,
        rates: Array,
        scalars: Array,
        order: Array,
        index: Array,
        batch_size: int,
    ) -> None:
        self._run(
            control.begin_step(counters, rates, scalars, order, index, batch_size, self._room)
        )

    def chains(self, layers: Sequence[Any], flat: Array, *, training: bool) -> Chains:
        """The runs of narrow layers of a network, see `mlp.backends.cuda.narrow`."""
        return Chains(self, self._tiles, self._room, layers, flat, training)

    def predictor(
        self, layers: Sequence[Any], flat: Array, repeated: bool = False
    ) -> Callable[[Array, Array], None]:
        return Predictor(self, layers, flat, repeated)

    @contextmanager
    def capture(self, steps: Any) -> Iterator[Run]:
        try:
            yield CapturedSteps(self, steps)
        finally:
            self.synchronize()  # what is queued may still read what the recordings hold

    def synchronize(self) -> None:
        self.on.synchronize()


def _wants_warpgroups(number: int, capability: tuple[int, int]) -> bool:
    """Whether the environment asks for tiles of warpgroups; raises BackendUnavailable."""
    wanted = os.environ.get(WARPGROUPS_VARIABLE) == "1"
    if wanted and capability != (9, 0):
        raise BackendUnavailable(
            f"{WARPGROUPS_VARIABLE}=1 needs compute capability 9.0, and device {number} has "
            f"{capability[0]}.{capability[1]}; unset it"
        )
    return wanted


def _arrays_of(steps: PenaltySteps | None) -> dict[str, Array]:
    """The factors and values of the penalty in each step as the kernels take them."""
    if steps is None:
        return {}
    return {"penalty_scales": steps.scales, "penalty_values": steps.values}


def _numbers(dropout: Dropout | None) -> products.DropoutNumbers | None:
    """A dropout as the kernels take it."""
    if dropout is None:
        return None
    return products.DropoutNumbers(
        dropout_threshold(dropout.rate), 1 / (1 - dropout.rate), dropout.layer, dropout.counters
    )
