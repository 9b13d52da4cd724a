"""How far another form of a network is from the model itself, computed in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mlp.backends.protocol import HostArray
from mlp.data.preprocessing import Standardizer
from mlp.data.table_preprocessing import TablePreprocessor
from mlp.errors import InvalidInput
from mlp.interop.answers import answers, kind_of, value_scaler
from mlp.interop.engines import OnnxFile, torch_forward
from mlp.interop.optional import is_installed
from mlp.interop.rows import Rows
from mlp.interop.torch import from_torch
from mlp.interop.torch_files import read_state_dict
from mlp.interop.torch_layers import find_layers
from mlp.network import Network

# Of the largest number expected in a group of rows.
TOLERANCE = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-12}
# A deep or wide network may lose more than that to rounding. This many times what the reference
# itself loses in that dtype is allowed: in another order, the same sums may lose that much more.
ROUNDING = 4.0


@dataclass(frozen=True)
class Finding:
    """The largest difference of one output on one group of rows.

    Attributes:
        form: what was compared with the model: "device cpu", "onnx", "torch".
        engine: what computed it.
        output: "label", "probabilities", "values" or, of PyTorch, "outputs".
        rows: how many, and of which kind, see `Rows`.
        difference: |found - expected| as a share of the largest |expected| of the group, at its
            largest; infinite where only one of them is finite. Of "label": how many rows have
            another than one of those whose expected probability is the largest, to the bound.
        bound: up to which a difference is one of rounding; 0 for "label".
        row, column: where.
        expected, found: there.
    """

    form: str
    engine: str
    output: str
    kind: str
    rows: int
    difference: float
    bound: float
    row: int
    column: int
    expected: Any
    found: Any

    @property
    def agrees(self) -> bool:
        return self.difference <= self.bound


@dataclass(frozen=True)
class Form:
    """Another form of a network: what it is called, and its outputs of some rows by name."""

    name: str
    engine: str
    dtype: np.dtype[Any]
    outputs: Callable[[Rows], dict[str, HostArray]]


def device_form(network: Network) -> Form:
    """The network itself on its device, in its own dtype."""
    return Form(
        f"device {network.device}",
        f"{network.precision} on {network.device}",
        network.dtype,
        lambda rows: answers(network, rows.X),
    )


def onnx_form(path: Path, truth: Network) -> Form:
    """An ONNX file; its outputs are taken in their order, whatever their names.

    Raises:
        ModelFileError, InvalidInput, InvalidSetting: see `OnnxFile`; or it has other outputs.
    """
    file = OnnxFile(path)
    names = ["values"] if kind_of(truth) == "values" else ["label", "probabilities"]
    if len(file.outputs) != len(names):
        raise InvalidInput(
            f"{path}: has the outputs {', '.join(file.outputs)}; {' and '.join(names)} expected"
        )
    return Form(
        "onnx",
        file.engine,
        file.dtype,
        lambda rows: dict(zip(names, file(rows.feeds), strict=True)),
    )


def torch_form(path: Path, truth: Network) -> Form:
    """A file with a state_dict, run by PyTorch if that is installed, else by the reference.

    Raises:
        ModelFileError, InvalidInput, InvalidSetting: see `from_torch`; or it is a network of other
            widths.
    """
    network = _torch_network(path, truth)
    run: Callable[[HostArray], HostArray] = network.forward
    engine = "its weights by the NumPy reference; PyTorch is not installed"
    if is_installed("torch"):
        run, engine = torch_forward(network)
    return Form(
        "torch", engine, network.dtype, lambda rows: {"outputs": run(_module_rows(rows, truth))}
    )


def _torch_network(path: Path, truth: Network) -> Network:
    """The network of a file; where that says no activations, those of the model are meant."""
    tensors, about = read_state_dict(path)
    standardized = isinstance(truth.preprocessing, Standardizer)
    found = find_layers(tensors, str(path), about["standardized"] if about else standardized)
    if found.widths != truth.spec.widths:
        theirs, own = (" -> ".join(map(str, w)) for w in (found.widths, truth.spec.widths))
        raise InvalidInput(f"{path}: a network of {theirs}, but the model is one of {own}")
    activations = None if about else [layer.activation for layer in truth.spec.layers]
    return from_torch(path, activations, standardized=standardized, device="numpy")


def _module_rows(rows: Rows, truth: Network) -> HostArray:
    """Rows as the nn.Sequential takes them: raw, or the features of a table's columns."""
    found = truth.preprocessing
    X: HostArray = found.transform(rows.X) if isinstance(found, TablePreprocessor) else rows.X
    return X


def compare(
    form: Form, truth: Network, groups: Iterator[Rows], tolerance: float | None
) -> Iterator[Finding]:
    """What was found for each group of rows and each output.

    Args:
        form: what to compare.
        truth: the model in float64, on the reference.
        groups: the rows.
        tolerance: None for that of the form's dtype or, where that is more, ROUNDING times the
            difference of the reference in that dtype from the model.
    """
    rounded = Network.from_state(replace(truth.state(), precision=str(form.dtype)), "numpy")
    for rows in groups:
        with np.errstate(all="ignore"):  # huge rows overflow, and that is compared
            expected, found = _expected(form, truth, rows), form.outputs(rows)
            bound = tolerance
            if bound is None:
                inherent = _largest(_expected(form, rounded, rows), expected, form)
                bound = max(TOLERANCE[form.dtype], ROUNDING * inherent)
            for name, values in expected.items():
                if name == "label":
                    place, difference = _labels(found[name], expected, truth, bound)
                    allowed = 0.0
                else:
                    place, difference = _numbers(found[name], values, form)
                    allowed = bound
                row, column = (*place, 0)[:2]
                yield Finding(
                    form.name, form.engine, name, rows.kind, len(rows), difference, allowed,
                    row, column, _plain(values[place]), _plain(found[name][place]),
                )  # fmt: skip


def _expected(form: Form, truth: Network, rows: Rows) -> dict[str, HostArray]:
    if form.name != "torch":
        return answers(truth, rows.X)
    a, scaler = truth.forward(rows.X), value_scaler(truth)
    return {"outputs": a if scaler is None else scaler.inverse(a)}


def _largest(found: dict[str, HostArray], expected: dict[str, HostArray], form: Form) -> float:
    """The largest difference of all outputs that are numbers."""
    numbers = [name for name in expected if name != "label"]
    return max(_numbers(found[name], expected[name], form)[1] for name in numbers)


def _numbers(found: HostArray, exact: HostArray, form: Form) -> tuple[tuple[int, ...], float]:
    """Where the largest difference is, and how large."""
    if found.shape != exact.shape:
        raise InvalidInput(f"{form.name}: outputs have shape {found.shape}, not {exact.shape}")
    expected = exact.astype(form.dtype).astype(np.float64)
    finite = np.isfinite(expected)
    scale = float(np.abs(expected[finite]).max(initial=0.0)) or 1.0
    difference = np.abs(found - expected) / scale
    # Infinite or not a number in both, whichever, is agreement: sums may overflow in any order.
    difference[~finite & ~np.isfinite(found)] = 0
    difference[finite != np.isfinite(found)] = np.inf
    place = tuple(int(i) for i in np.unravel_index(difference.argmax(), difference.shape))
    return place, float(difference[place])


def _labels(
    found: HostArray, expected: dict[str, HostArray], truth: Network, bound: float
) -> tuple[tuple[int, ...], float]:
    """Where a label is wrong, and in how many rows; ties within the bound go either way."""
    labels, p = expected["label"], expected["probabilities"]
    if found.shape != labels.shape:
        raise InvalidInput(f"the labels have shape {found.shape}, not {labels.shape}")
    if labels.ndim == 2:
        wrong = (found != labels) & (np.abs(p - 0.5) > bound)
    else:
        classes = range(p.shape[1]) if truth.classes is None else truth.classes
        code = {label: i for i, label in enumerate(np.asarray(classes).tolist())}
        codes = np.array([code.get(label, -1) for label in found.tolist()])
        probability = np.where(codes >= 0, p[np.arange(len(p)), codes], -1)
        wrong = probability < p.max(axis=1) - 2 * bound
    place = tuple(int(i) for i in np.unravel_index(wrong.argmax(), wrong.shape))
    return place, float(np.count_nonzero(wrong if wrong.ndim == 1 else wrong.any(axis=1)))


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
