"""`mlp verify`: a model, and what was exported from it, against the model in float64."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlp.cli.output import count, device_option, json_option, print_json
from mlp.errors import require_in, require_positive_int
from mlp.network import Network, load
from mlp.random import check_seed

if TYPE_CHECKING:
    from mlp.interop.verify import Finding, Form


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--onnx", type=click.Path(path_type=Path), help="An ONNX file to compare.")
@click.option(
    "--torch",
    type=click.Path(path_type=Path),
    help="A state_dict to compare: .safetensors or, where PyTorch is installed, .pt or .pth.",
)
@click.option(
    "--tolerance",
    type=float,
    help="Largest difference, as a share of the largest output. "
    "[default: 1e-5 in float32, 1e-12 in float64]",
)
@click.option("--rows", default=1000, show_default=True, help="Random rows to compare on.")
@click.option("--seed", default=0, show_default=True, help="Of the random rows.")
@device_option
@json_option
def verify(
    model: Path,
    onnx: Path | None,
    torch: Path | None,
    tolerance: float | None,
    rows: int,
    seed: int,
    device: str,
    as_json: bool,
) -> int:
    """Compare MODEL on its device, and files exported from it, with MODEL in float64.

    The truth is the NumPy reference in float64. The rows are random ones like those it was trained
    on, and edges: zeros, tiny, negative and huge numbers and, where it takes a table, missing
    values and categories that training did not see. Exit code 1 if a difference is above the
    tolerance.
    """
    from mlp.interop.rows import comparison_rows
    from mlp.interop.verify import compare, device_form, onnx_form, torch_form

    require_positive_int("--rows", rows)
    seed = check_seed(seed)
    if tolerance is not None:
        require_in("--tolerance", tolerance, 0, math.inf, open_high=True)
    truth = load(model, "numpy", precision="float64")
    own = load(model, "numpy").dtype
    forms = [device_form(load(model, device, precision=str(own)))]
    if onnx is not None:
        forms.append(onnx_form(onnx, truth))
    if torch is not None:
        forms.append(torch_form(torch, truth))
    found = [
        finding
        for form in forms
        for finding in compare(form, truth, comparison_rows(truth, rows, seed), tolerance)
    ]
    agrees = all(finding.agrees for finding in found)
    if as_json:
        findings = [asdict(finding) | {"agrees": finding.agrees} for finding in found]
        print_json({"model": str(model), "agrees": agrees, "findings": findings})
    else:
        _print(model, truth, forms, found)
    return 0 if agrees else 1


def _print(model: Path, truth: Network, forms: list[Form], found: list[Finding]) -> None:
    shape = " -> ".join(
        [str(truth.spec.inputs), *(f"{d.units} {d.activation}" for d in truth.spec.layers)]
    )
    parameters = count(truth.spec.parameter_count, "parameter")
    click.echo(f"{model}: {shape}; {parameters}, all finite")
    for form in forms:
        of_form = [finding for finding in found if finding.form == form.name]
        bound = min(finding.bound for finding in of_form if finding.output != "label")
        click.echo(f"\n{form.name} ({form.engine}) against the model in float64, bound {bound:g}:")
        for finding in of_form:
            click.echo(_line(finding, bound))
    wrong = sum(not finding.agrees for finding in found)
    verdict = "all agree" if not wrong else f"NOT all agree: {wrong} of {len(found)} are WRONG"
    click.echo(f"\nlargest differences, as a share of the largest output: {verdict}")


def _line(finding: Finding, bound: float) -> str:
    start = f"  {finding.output:<13}  {finding.kind:<8}  {count(finding.rows, 'row'):>10}"
    if finding.output == "label":
        difference = f"{finding.difference:.0f} differ"
    else:
        difference = f"{finding.difference:.1e}"
    line = f"{start}  {difference:>9}  {'ok' if finding.agrees else 'WRONG'}"
    if finding.bound > bound:
        line += f" (bound {finding.bound:.1e}, from the rounding of the model itself)"
    if finding.agrees:
        return line
    place = f"row {finding.row}, column {finding.column}"
    return f"{line} at {place}: {_show(finding.found)}, expected {_show(finding.expected)}"


def _show(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, float) else repr(value)
