"""The floors: what may import what, read from the sources; and what `import mlp` does not load."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mlp

ROOT = Path(mlp.__file__).resolve().parents[1]
FLOORS = [
    {"errors", "activations", "losses", "initializers", "schedules", "spec", "random"},
    {"backends", "data", "model_file", "summary"},
    {"parameters", "optimizers", "backpropagation", "network_state", "gradients", "network"},
    {"epoch_plan", "step", "streaming", "evaluation", "gradcheck"},
    {"callbacks", "trainer", "learning_rate_finder"},
    {"estimators", "explain", "interop", "report"},
    {"cli"},
]
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}
MAY_IMPORT_KERNELS = {"numba", "numba_capture", "numba_predict", "cuda"}  # of mlp.backends
# The public names import nothing by themselves, and __main__ only starts the command line.
ABOVE_ALL = {"mlp", "mlp.__main__"}


def modules(source_root: Path, package: str) -> dict[str, Path]:
    """Dotted name -> file, of every module of a package."""
    found = {}
    for path in sorted((source_root / package).rglob("*.py")):
        parts = path.relative_to(source_root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MLP = modules(ROOT, "mlp")
KERNELS = modules(ROOT / "kernels", "mlp_kernels")


def for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in (
        "TYPE_CHECKING",
        "typing.TYPE_CHECKING",
    )


def imports(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """Every module that a file imports, also inside functions, but not for type checkers alone.

    `from mlp import random` names the module mlp.random where there is one.
    """

    def visit(node: ast.AST) -> Iterator[str]:
        if for_types_only(node):
            return
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else str(node.module)
        for child in ast.iter_child_nodes(node):
            yield from visit(child)

    return visit(ast.parse(path.read_text(encoding="utf-8")))


IMPORTS = {name: set(imports(path, MLP)) for name, path in MLP.items()}


def taken_from_the_top(path: Path) -> set[str]:
    """Names that a file reads as `mlp.name`, or imports by `from mlp import name`, no modules."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "mlp":
            names.add(node.attr)
        if isinstance(node, ast.ImportFrom) and node.module == "mlp":
            names.update(alias.name for alias in node.names)
    return {name for name in names if f"mlp.{name}" not in MLP}


def part(module: str) -> str:
    """mlp.data.arrays -> data."""
    return module.split(".")[1]


def test_every_module_has_a_floor():
    parts = {part(name) for name in MLP if name not in ABOVE_ALL}
    assert parts == set(FLOOR_OF)


@pytest.mark.parametrize("name", [name for name in MLP if name not in ABOVE_ALL])
def test_no_module_imports_a_higher_floor(name):
    floor = FLOOR_OF[part(name)]
    for imported in IMPORTS[name]:
        if imported == "mlp":
            used = taken_from_the_top(MLP[name])
            assert used <= {"__version__"}, f"{name}: import {used} from where they are defined"
        elif imported.startswith("mlp."):
            assert FLOOR_OF[part(imported)] <= floor, f"{name} (floor {floor}) imports {imported}"


def test_no_cycles():
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"a cycle: {' -> '.join([*path[path.index(name) :], name])}"
        if name not in done:
            # A package's __init__ runs before any module in it, but says only what it imports.
            for imported in sorted(IMPORTS.get(name, set()) - ABOVE_ALL):
                visit(imported, (*path, name))
            done.add(name)

    for name in MLP:
        if name not in ABOVE_ALL:
            visit(name, ())


def test_only_compiled_backends_import_the_kernels():
    users = {
        name
        for name, imported in IMPORTS.items()
        if any(module.split(".")[0] == "mlp_kernels" for module in imported)
    }
    outside = {name for name in users if not name.startswith("mlp.backends.")}
    assert not outside
    assert {name.split(".")[2] for name in users} <= MAY_IMPORT_KERNELS


@pytest.mark.parametrize("name", KERNELS)
def test_the_kernels_import_nothing_of_mlp(name):
    for imported in imports(KERNELS[name], KERNELS):
        assert imported.split(".")[0] != "mlp", f"{name} imports {imported}"


def test_the_kernels_folder_is_a_source_root_and_no_package():
    assert KERNELS
    assert not (ROOT / "kernels" / "__init__.py").exists()


def test_the_reader_of_imports_sees_what_it_should(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "from typing import TYPE_CHECKING\n"
        "from mlp import random, __version__\n"
        "def f():\n    if True:\n        import mlp_kernels.cpu as cpu\n"
        "if TYPE_CHECKING:\n    from mlp.trainer import Trainer\n"
        "else:\n    import json\n"
    )
    found = list(imports(path, MLP))
    assert found == ["typing", "mlp.random", "mlp", "mlp_kernels.cpu"]


# --- the public names -----------------------------------------------------------------------------


def test_every_public_name_resolves():
    assert mlp.__all__[-1] == "__version__"
    assert len(mlp.__all__) == len(set(mlp.__all__))
    for name in mlp.__all__:
        assert getattr(mlp, name) is not None
    assert set(mlp.__all__) <= set(dir(mlp))


def test_type_checkers_see_the_same_names():
    (block,) = filter(for_types_only, ast.parse(MLP["mlp"].read_text(encoding="utf-8")).body)
    seen: dict[str, list[str]] = {}
    for statement in block.body:
        assert isinstance(statement, ast.ImportFrom)
        for alias in statement.names:
            assert alias.asname == alias.name, "an import is re-exported only under `as` its name"
            seen.setdefault(statement.module.removeprefix("mlp."), []).append(alias.name)
    assert {module: sorted(names) for module, names in seen.items()} == {
        module: sorted(names) for module, names in mlp._PUBLIC.items()
    }


def test_a_name_that_is_not_public():
    with pytest.raises(AttributeError, match="module 'mlp' has no attribute 'Netwrok'"):
        _ = mlp.Netwrok


HEAVY = {
    "numpy", "numba", "scipy", "sklearn", "cupy", "matplotlib", "rich", "typer", "safetensors",
    "pyarrow", "pandas", "polars",
}  # fmt: skip


def loaded_by(code: str) -> set[str]:
    """Top-level modules that a fresh process has loaded after running some code."""
    script = f"import sys\n{code}\nimport json\nprint(json.dumps(sorted(sys.modules)))"
    path = [str(ROOT), str(ROOT / "kernels")]
    run = subprocess.run(
        [sys.executable, "-c", f"import sys\nsys.path[:0] = {path!r}\n{script}"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return {name.split(".")[0] for name in json.loads(run.stdout.splitlines()[-1])}


def test_importing_mlp_loads_nothing_heavy():
    assert not loaded_by("import mlp") & HEAVY


def test_training_on_the_reference_needs_only_numpy():
    code = (
        "import mlp\n"
        "net = mlp.Network(2, [mlp.Dense(3, 'tanh'), mlp.Dense(2, 'softmax')], device='numpy')\n"
        "mlp.Trainer(net, 'cross_entropy').fit([[0, 1], [1, 0]], [0, 1], 1)"
    )
    assert loaded_by(code) & HEAVY == {"numpy"}
