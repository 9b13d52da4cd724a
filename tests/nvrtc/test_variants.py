"""That the list of kernels leaves out no file, no function, no value of a macro, and no tile."""

import re
from itertools import product

import pytest

from mlp_kernels.cuda.activations import ELEMENTWISE, activation_struct
from mlp_kernels.cuda.compile import FOLDER
from mlp_kernels.cuda.losses import FORMS, form_struct
from tests.nvrtc.variants import everything, runs_on

KERNELS = tuple(everything())

YES_OR_NO = {0, 1}
COMPUTED = {"double", "float"}
SHORT = {"bfloat16", "float16"}
NUMBERS = COMPUTED | SHORT
DATA = NUMBERS | {"uint8", "int8", "int16", "int32", "int64"}
ACTIVATIONS = {activation_struct(name) for name in ELEMENTWISE}
LANES = {1, 2, 4, 8, 16, 32}
# Rows and columns of tiles.
SQUARES = {(128, 128), (64, 64), (32, 32)}
SIZES = SQUARES | {(128, 256), (128, 32), (32, 128)}
TILE = {
    "NUMBER": NUMBERS, "TENSOR": {0, 1, 2}, "TILE_ROWS": {128, 64, 32},
    "TILE_COLUMNS": {256, 128, 64, 32}, "TILE_DEPTH": {8, 16, 32, 64}, "TILE_STAGES": {2, 3, 4, 5},
    "TILE_ROW_WARPS": {0, 1, 2, 4, 8}, "TILE_COLUMN_WARPS": {0, 1, 2, 4}, "COPY": {0, 2, 4, 16},
}  # fmt: skip
ALL = ", ".join(map(activation_struct, ELEMENTWISE))
NARROW = {
    "NUMBER": {"float"} | SHORT, "TENSOR": YES_OR_NO, "WIDTH": {64, 128},
    "ACTIVATIONS": {"Identity, Relu", "Identity, Relu, Gelu", ALL},
}  # fmt: skip
SOFTMAX = {
    "ROW_LANES": LANES, "GIVEN": NUMBERS, "SAVED": NUMBERS, "OUT": NUMBERS, "DROPOUT": YES_OR_NO,
}  # fmt: skip
EPILOGUE = {
    "PRODUCT": NUMBERS, "RESULT": NUMBERS, "ACTIVATION": ACTIVATIONS, "DROPOUT": YES_OR_NO,
}  # fmt: skip

# function -> macro -> values, as the head of its file says.
VALUES = {
    "linear_forward": TILE | {
        "RESULT": NUMBERS, "ACTIVATION": ACTIVATIONS, "SAVED": YES_OR_NO, "DROPOUT": YES_OR_NO,
    },
    "linear_delta": TILE | {"ACTIVATION": ACTIVATIONS, "DROPOUT": YES_OR_NO},
    "linear_grads": TILE,
    "loss": {
        "FORM": {form_struct(form) for form in FORMS}, "ROW_LANES": LANES, "OUTPUT": COMPUTED,
        "DELTA": NUMBERS, "LABELS": YES_OR_NO, "WEIGHTED": YES_OR_NO, "SCALED": YES_OR_NO,
    },
    "total_weight": {"NUMBER": COMPUTED},
    "update": {
        "NUMBER": COMPUTED, "RULE": {"Sgd", "Rmsprop", "Adagrad", "Adam", "Lion"},
        "KEPT": {0, 1, 3, 5, 7}, "DECAY": YES_OR_NO, "COPY": {None} | SHORT,
    },
    "tiny_steps": {
        "NUMBER": COMPUTED | {"bfloat16"}, "TF32": YES_OR_NO,
        "FORM": {form_struct(form) for form in FORMS}, "KEPT": {0, 1, 3, 5, 7},
        "RULE": {"Sgd", "Rmsprop", "Adagrad", "Adam", "Lion"},
    },
    "narrow_forward": NARROW | {
        "INPUT": {"float"} | SHORT, "RESULT": {"float", "bfloat16"},
    },
    "narrow_delta": NARROW,
    "narrow_grads": {"FRAGMENTS": YES_OR_NO},
    "prepare_gradients": {
        "NUMBER": COMPUTED, "UNSCALE": YES_OR_NO, "PENALTY": {0, 1, 2}, "CLIP": YES_OR_NO,
    },
    "decay": {"NUMBER": COMPUTED},
    "gather_batch": {
        "ARRAYS": {1, 2, 3}, "FROM0": DATA, "TO0": DATA, "FROM1": {None, "int64"} | COMPUTED,
        "TO1": {None, "int64"} | COMPUTED, "FROM2": {None} | COMPUTED, "TO2": {None} | COMPUTED,
    },
    "convert": {"FROM": DATA, "TO": DATA},
    "standardise": {"FROM": DATA, "TO": NUMBERS},
    "count_not_finite": {"NUMBER": NUMBERS},
    "column_sums": {"NUMBER": NUMBERS},
    "softmax_rows": SOFTMAX,
    "softmax_delta": SOFTMAX,
    "forward_epilogue": EPILOGUE | {"SAVED": YES_OR_NO},
    "delta_epilogue": EPILOGUE,
    "activation_delta": {
        "ACTIVATION": ACTIVATIONS, "GRADIENT": NUMBERS, "SAVED": NUMBERS, "OUT": NUMBERS,
    },
}  # fmt: skip


def macros_of(function):
    return [dict(kernel.macros) for kernel in KERNELS if kernel.name == function]


def test_every_function_of_every_file():
    pattern = re.compile(r'extern "C" __global__ void\s+(?:__launch_bounds__\(.*?\)\s+)?(\w+)\(')
    functions = {
        (path.name, name)
        for path in FOLDER.glob("*.cu")
        for name in pattern.findall(path.read_text(encoding="utf-8"))
    }
    assert {path.name for path in FOLDER.glob("*.cu")} == {file for file, _ in functions}
    assert {(kernel.file, kernel.name) for kernel in KERNELS} == functions


@pytest.mark.parametrize("function", sorted({kernel.name for kernel in KERNELS}))
def test_every_value_of_every_macro(function):
    found = macros_of(function)
    names = {name for macros in found for name in macros} - {"SHARED"}  # which the others tell
    values = {name: {macros.get(name) for macros in found} for name in names}
    assert values == VALUES.get(function, {})


@pytest.mark.parametrize("function", ["linear_forward", "linear_delta", "linear_grads"])
def test_every_tile_of_a_product_with_its_heaviest_epilogue(function):
    found = {
        (m["NUMBER"], m["TENSOR"], (m["TILE_ROWS"], m["TILE_COLUMNS"]), m["COPY"])
        for m in macros_of(function)
        if m.get("ACTIVATION", "Gelu") == "Gelu" and m.get("SAVED", 1) and m.get("DROPOUT", 1)
    }
    tensor = set(product(SHORT, {1}, SIZES, {16}))
    tensor |= set(product({"bfloat16"}, {1}, SQUARES, {4}))
    tensor |= set(product({"float"}, {1}, SIZES - {(128, 256)}, {16}))
    tensor |= set(product({"float"}, {1}, SQUARES, {4})) | set(
        product({"bfloat16"}, {1}, SQUARES, {2})
    )
    plain = set(product({"float"} | SHORT, {0}, SQUARES, {0}))
    plain |= set(product({"double"}, {0}, SQUARES - {(128, 128)}, {0}))
    hopper = set(product(SHORT, {2}, {(128, 128), (128, 256)}, {16}))
    assert found == tensor | plain | hopper


@pytest.mark.parametrize("function", ["linear_forward", "linear_delta"])
def test_every_activation_on_the_largest_tile_of_a_number_type(function):
    largest = [
        macros
        for macros in macros_of(function)
        if macros["TILE_ROWS"] == (64 if macros["NUMBER"] == "double" else 128)
    ]
    found = {(m["NUMBER"], m["TENSOR"], m["ACTIVATION"]) for m in largest}
    kinds = {("double", 0), ("float", 0), ("float", 1), ("bfloat16", 1)}
    assert {(*kind, activation) for kind in kinds for activation in ACTIVATIONS} <= found


def test_every_form_of_a_loss_in_every_type():
    found = {(m["FORM"], m["OUTPUT"], m["DELTA"]) for m in macros_of("loss")}
    stored = {("double", "double"), ("float", "float"), ("float", "float16"), ("float", "bfloat16")}
    assert {(form, *types) for form in VALUES["loss"]["FORM"] for types in stored} <= found


def test_every_rule_with_every_set_of_arrays():
    kept = {"Sgd": {0, 1}, "Rmsprop": {1, 3, 5, 7}, "Adagrad": {1}, "Adam": {3, 7}, "Lion": {1}}
    expected = {(rule, which) for rule, sets in kept.items() for which in sets}
    for number in COMPUTED:
        found = {(m["RULE"], m["KEPT"]) for m in macros_of("update") if m["NUMBER"] == number}
        assert found == expected


def test_devices_without_tensor_cores_run_no_kernel_for_them():
    for kernel in KERNELS:
        macros = dict(kernel.macros)
        if macros.get("TENSOR"):
            assert not any(runs_on(kernel, target) for target in (70, 75))
            assert runs_on(kernel, 90)
            assert runs_on(kernel, 80) != kernel.of_one_architecture
    assert all(any(runs_on(kernel, target) for target in (75, 90)) for kernel in KERNELS)


def test_kernels_of_warpgroups_are_for_one_target():
    found = [kernel for kernel in KERNELS if dict(kernel.macros).get("TENSOR") == 2]
    assert found
    for kernel in found:
        assert kernel.of_one_architecture
        assert [t for t in (75, 80, 90, 100, 120) if runs_on(kernel, t)] == [90]
    assert sum(kernel.of_one_architecture for kernel in KERNELS) == len(found)
