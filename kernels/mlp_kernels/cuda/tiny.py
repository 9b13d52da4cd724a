"""Launches of many training steps of a small network: tiny.cu, and which networks are small."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from mlp_kernels.cuda.activations import ELEMENTWISE
from mlp_kernels.cuda.compile import Kernel
from mlp_kernels.cuda.launch import Launch
from mlp_kernels.cuda.losses import CLASS_FORMS, form_struct
from mlp_kernels.cuda.optimizers import MOST_SETTINGS, STATES, Rule
from mlp_kernels.cuda.types import check_dtype, check_shape, compute_type, number_type

# As in tiny.cuh.
THREADS, MOST_ROWS, TILE, DEPTH, MOST_LAYERS = 256, 8, 32, 64, 8
SOFTMAX = len(ELEMENTWISE)

# What counts as small. Every block reads all weights but the first, and often these, from the
# second-level cache in each step; and plain multiply-adds do what tensor cores do elsewhere.
MOST_PARAMETERS = 2**18
MOST_BATCH = 1024
# Bytes of shared memory that the kernel's own variables take, at most.
OF_VARIABLES = 4 * 1024

# Weights of a first layer from which on its output is a phase by itself, and how many columns of
# that a block then computes at a time.
SPLIT_FROM, SPLIT_COLUMNS = 2**14, 16


class Layer(NamedTuple):
    """One layer, and where its arrays begin.

    Attributes:
        inputs, outputs: sizes.
        W, b: first elements in the flat parameters.
        x, a, saved, delta: first elements in the tape; of the output layer's a and saved, any.
        activation: a name of `activations.ELEMENTWISE`, or "softmax" for the output.
        threshold, scale: of its dropout, see `products.DropoutNumbers`; 0 and 1 for none.
    """

    inputs: int
    outputs: int
    W: int
    b: int
    x: int
    a: int
    saved: int
    delta: int
    activation: str
    threshold: int = 0
    scale: float = 1.0

    @property
    def parts(self) -> int:
        """Parts of dW, with db as a row of its own below it."""
        return (self.inputs // TILE + 1) * math.ceil(self.outputs / TILE)


@dataclass(frozen=True)
class TinyPlan:
    """How the steps of a network are shared out among blocks.

    Attributes:
        layers: from the first to the output.
        batch_size: rows of a full batch.
        dtype: what products read, of NumPy.
    """

    layers: tuple[Layer, ...]
    batch_size: int
    dtype: np.dtype[Any]

    @property
    def widest(self) -> int:
        """Most outputs of a layer."""
        return max(layer.outputs for layer in self.layers)

    @property
    def parts(self) -> int:
        """Parts of all gradients."""
        return sum(layer.parts for layer in self.layers)

    @property
    def split(self) -> int:
        """Columns of the first layer that a block computes in phase 0; 0 where there is none."""
        first, *others = self.layers
        large = others and first.inputs * first.outputs >= SPLIT_FROM
        return SPLIT_COLUMNS if large else 0

    def blocks(self, processors: int) -> int:
        """As many as have work in the phase with most parts, one per multiprocessor at most."""
        parts = max(self.batch_size, self.parts)
        if self.split:
            columns = math.ceil(self.layers[0].outputs / self.split)
            parts = max(parts, math.ceil(self.batch_size / MOST_ROWS) * columns)
        return max(1, min(parts, processors))

    def shared(self, each: int) -> int:
        """Bytes of shared memory of a block that takes `each` rows at a time."""
        rows = 1 if each == 1 and not self.split else MOST_ROWS
        numbers = rows * (self.layers[0].inputs + 2 * self.widest + THREADS)
        itemsize = np.dtype(compute_type(self.dtype)).itemsize
        return max(numbers, 2 * DEPTH * TILE) * itemsize

    def rows_of_a_block(self, blocks: int) -> int:
        """Rows of the batch that a block takes through the network at a time."""
        return min(math.ceil(self.batch_size / blocks), MOST_ROWS)

    def why_too_large(self, shared: int) -> str | None:
        """Why it is not small, where a block can have so many bytes of shared memory; or None."""
        parameters = sum((layer.inputs + 1) * layer.outputs for layer in self.layers)
        bounds = (
            (len(self.layers), MOST_LAYERS, "layers"),
            (parameters, MOST_PARAMETERS, "parameters"),
            (self.batch_size, MOST_BATCH, "rows in a batch"),
            (self.shared(MOST_ROWS), shared - OF_VARIABLES, "bytes of shared memory"),
        )
        for count, bound, what in bounds:
            if count > bound:
                return f"{count:,} {what} are more than {bound:,}"
        return None

    def table(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The layers (L, 11) int64 as the kernel reads them."""
        codes = (*ELEMENTWISE, "softmax")
        before = accumulate((layer.parts for layer in self.layers), initial=0)
        rows = [
            (*layer[:8], codes.index(layer.activation), layer.threshold, first_part)
            for layer, first_part in zip(self.layers, before, strict=False)
        ]
        return np.array(rows, np.int64)

    def settings(
        self,
        rule: Rule,
        parameter: float,
        l1: float,
        l2: float,
        weight_decay: float,
        max_norm: float | None,
    ) -> np.ndarray[Any, np.dtype[np.float64]]:
        """The numbers (11 + L,) float64 that the kernel reads, in the order of tiny.cuh.

        parameter is the loss form's; l1, l2, weight_decay and max_norm as in `optimizers.prepare`
        and `optimizers.update`.
        """
        of_rule: list[Any] = [*rule[STATES[type(rule)] :]]
        of_rule += [0.0] * (MOST_SETTINGS - len(of_rule))
        scales = [layer.scale for layer in self.layers]
        terms = [parameter, l1, l2, weight_decay, max_norm or 0.0]
        return np.array([*terms, *of_rule, *scales], np.float64)


@dataclass(frozen=True)
class TinyArrays:
    """What the steps read and write on the device; P parameters, B rows of a full batch.

    Attributes:
        table, settings: of the `TinyPlan`.
        parameters, gradients: flat (P,); copies (P,) in 16 bits, where products read these.
        tape: the flat buffer of the compute dtype; output, output_saved (B, O) apart from it or in
            it.
        X, target, weight: all rows (N, I), labels (N,) or numbers (N, O), weights (N,) or None.
        order: (N,); counters, rates, scalars, totals: see `mlp.backends.protocol`.
        values: (B,) float64; squares: (parts of the plan,) float64.
        penalty_scales, penalty_values: see `optimizers.prepare`; with penalties (parts of the
            plan,) float64, or all None.
        arrived: (1,) uint32, 0 at first; used by nothing else.
    """

    table: Any
    settings: Any
    parameters: Any
    gradients: Any
    copies: Any | None
    tape: Any
    output: Any
    output_saved: Any
    X: Any
    target: Any
    weight: Any | None
    order: Any
    counters: Any
    rates: Any
    scalars: Any
    totals: Any
    values: Any
    squares: Any
    arrived: Any
    penalty_scales: Any | None = None
    penalty_values: Any | None = None
    penalties: Any | None = None


def tiny_steps(
    plan: TinyPlan,
    arrays: TinyArrays,
    rule: Rule,
    form: str,
    weights_end: int,
    steps: int,
    *,
    blocks: int,
    tf32: bool = False,
) -> Launch:
    """The next `steps` steps of this epoch, in one launch of so many blocks at once.

    Each is begin_step, gather_batch, linear_forward, loss, linear_delta, linear_grads, prepare and
    update of a `mlp.step.Step`. Counters, scalars, totals, parameters, states, gradients and tape
    are left as these leave them; targets, weights and row numbers are not gathered. The number of
    blocks changes no bit. That the epoch has so many steps is the caller's to know.
    """
    states = [*rule[: STATES[type(rule)]], None, None][:3]
    labels = arrays.target.ndim == 1 and form in CLASS_FORMS
    _check(plan, arrays, [state for state in states if state is not None], labels)
    if steps < 1 or blocks < 1:
        raise ValueError(f"{steps} steps by {blocks} blocks are none")
    kernel = Kernel.of(
        "tiny.cu", "tiny_steps", NUMBER=number_type(plan.dtype), TF32=int(tf32),
        FORM=form_struct(form), RULE=type(rule).__name__,
        KEPT=sum(1 << i for i, state in enumerate(states) if state is not None),
    )  # fmt: skip
    each = plan.rows_of_a_block(blocks)
    sizes = (len(plan.layers), plan.batch_size, each, plan.split, plan.widest, plan.parts)
    a = arrays
    return Launch(
        kernel, (blocks, 1, 1), (THREADS, 1, 1),
        (np.int64(steps), a.table, a.settings, *map(np.int32, sizes), a.parameters, a.gradients,
         *states, a.copies, np.int64(weights_end), a.tape, a.output, a.output_saved, a.X,
         a.target if labels else None, None if labels else a.target, a.weight, a.order,
         np.int64(a.order.size), a.counters, a.rates, a.scalars, a.totals, a.values, a.squares,
         a.penalty_scales, a.penalty_values, a.penalties, a.arrived),
        plan.shared(each), cooperative=True,
    )  # fmt: skip


def _check(plan: TinyPlan, arrays: TinyArrays, states: Sequence[Any], labels: bool) -> None:
    number = compute_type(plan.dtype)
    short = np.dtype(plan.dtype).itemsize < np.dtype(number).itemsize
    size, rows, outputs = arrays.parameters.size, arrays.order.size, plan.layers[-1].outputs
    shapes: dict[str, tuple[Any, Any, tuple[int, ...]]] = {
        "table": (arrays.table, np.int64, (len(plan.layers), 11)),
        "settings": (arrays.settings, np.float64, (11 + len(plan.layers),)),
        "parameters": (arrays.parameters, number, (size,)),
        "gradients": (arrays.gradients, number, (size,)),
        "output": (arrays.output, number, (plan.batch_size, outputs)),
        "output_saved": (arrays.output_saved, number, (plan.batch_size, outputs)),
        "X": (arrays.X, number, (rows, plan.layers[0].inputs)),
        "target": (
            arrays.target,
            np.int64 if labels else number,
            (rows,) if labels else (rows, outputs),
        ),
        "order": (arrays.order, np.int64, (rows,)),
        "counters": (arrays.counters, np.int64, (4,)),
        "scalars": (arrays.scalars, np.float64, (3,)),
        "totals": (arrays.totals, np.float64, (2,)),
        "values": (arrays.values, np.float64, (plan.batch_size,)),
        "squares": (arrays.squares, np.float64, (plan.parts,)),
        "arrived": (arrays.arrived, np.uint32, (1,)),
        "tape": (arrays.tape, plan.dtype, (arrays.tape.size,)),
    }
    shapes |= {f"state {i}": (state, number, (size,)) for i, state in enumerate(states)}
    if short:
        shapes["copies"] = arrays.copies, plan.dtype, (size,)
    if arrays.weight is not None:
        shapes["weight"] = arrays.weight, number, (rows,)
    if arrays.penalty_scales is not None:
        batches = (arrays.penalty_scales.size,)
        shapes["penalty_scales"] = arrays.penalty_scales, np.float64, batches
        shapes["penalty_values"] = arrays.penalty_values, np.float64, batches
        shapes["penalties"] = arrays.penalties, np.float64, (plan.parts,)
    for name, (array, dtype, shape) in shapes.items():
        if array is None:
            raise ValueError(f"{name} are needed")
        check_shape(name, array, *shape)
        check_dtype(name, array, dtype)
