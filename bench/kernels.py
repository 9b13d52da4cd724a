"""Operations of the contract that are measured alone: which, at which sizes, in which precision."""

from __future__ import annotations

from dataclasses import dataclass

from bench import floors
from bench.floors import OPERAND_BYTES, SUM_BYTES, Work

ACTIVATIONS = ("relu", "tanh", "silu", "gelu")
PRODUCTS = ("linear_forward", "linear_delta", "linear_grads")
PRECISIONS = ("bfloat16", "tf32", "float32")
# Activations whose derivative is of z, which the forward pass then stores beside a.
SAVES_Z = ("silu", "gelu")


@dataclass(frozen=True)
class KernelCase:
    """One operation at one size.

    Attributes:
        operation: as in `mlp.backends.protocol.Backend`; "adam" for the update.
        B, I, O: rows of the batch, inputs, outputs; an update has P in B, and 0 elsewhere.
        precision: as of a Case.
        activation: of `linear_forward` and `linear_delta`, else "".
    """

    operation: str
    B: int
    I: int = 0  # noqa: E741 - as everywhere in this project
    O: int = 0  # noqa: E741
    precision: str = "float32"
    activation: str = ""

    @property
    def title(self) -> str:
        """As in "linear_forward 4096 x 4096 x 4096, gelu"."""
        sizes = " x ".join(str(size) for size in (self.B, self.I, self.O) if size)
        return f"{self.operation} {sizes}" + (f", {self.activation}" if self.activation else "")

    @property
    def product(self) -> bool:
        return self.operation in PRODUCTS

    @property
    def work(self) -> Work:
        s, t = OPERAND_BYTES[self.precision], SUM_BYTES
        match self.operation:
            case "linear_forward":
                saved = self.activation in SAVES_Z
                return floors.linear_forward(self.B, self.I, self.O, s, t, saved=saved)
            case "linear_delta":
                return floors.linear_delta(self.B, self.I, self.O, s, t)
            case "linear_grads":
                return floors.linear_grads(self.B, self.I, self.O, s, t)
            case "adam":
                return floors.adam(self.B, t, copy=0 if s == t else s)
            case "loss":
                return floors.loss(self.B, self.O, s, t)
            case "gather_rows":
                return floors.gather_rows(self.B, self.I, s, source=t)
        raise ValueError(f"'{self.operation}' is not measured alone")


def _all() -> list[KernelCase]:
    big = (4096, 4096, 4096)
    # Layers of the cases: of mnist, tiny, narrow, mid, and an output layer.
    others = ((128, 784, 256), (32, 64, 64), (2**17, 64, 64), (8192, 1024, 1024), (8192, 1024, 10))
    cases = []
    for precision in PRECISIONS:
        for operation in PRODUCTS:
            for sizes in (big, *others):
                one = operation == "linear_grads" or sizes != big
                for activation in ("relu",) if one else ACTIVATIONS:
                    named = "" if operation == "linear_grads" else activation
                    cases.append(KernelCase(operation, *sizes, precision, named))
        if precision == "tf32":  # differs from float32 in the products alone
            continue
        cases += [KernelCase("adam", P, precision=precision) for P in (2**17, 2**24)]
        for B, O in ((128, 10), (8192, 10), (8192, 1000)):  # noqa: E741
            cases.append(KernelCase("loss", B, O=O, precision=precision))
        for B, I in ((128, 784), (8192, 1024), (2**17, 64)):  # noqa: E741
            cases.append(KernelCase("gather_rows", B, I, precision=precision))
    return cases


KERNELS = _all()
