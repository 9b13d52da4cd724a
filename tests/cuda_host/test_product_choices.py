"""Choices among tiles and the library while steps are recorded, and the command that lists them."""

from __future__ import annotations

import json
import re
import warnings

import numpy as np
import pytest

import mlp.backends
from mlp.backends import get_backend
from mlp.backends.cuda import choices as choices_module
from mlp.backends.cuda import products as products_module
from mlp.backends.cuda.choices import TABLE, Choices
from mlp.backends.cuda.products import LIBRARY, ranked_tiles
from mlp_kernels.cuda.tiles import Device, choose_shares, choose_tile, tiles_for
from mlp_kernels.cuda.tune import ProductKey, Table
from tests.cli.conftest import run
from tests.cuda_host.choosing import Ways, device, folder, kept_file, measured, shipped
from tests.cuda_host.cublas_stand_in import library_installed
from tests.cuda_host.runs import assert_same_network, classifier, digits, machine, trainer_of

__all__ = ["device", "folder", "run", "shipped"]  # fixtures


def test_tiles_begin_with_the_rule_of_thumb():
    device = Device((9, 0), 132)
    for dtype, copy in ((np.float32, 16), (np.uint16, 16), (np.uint16, 2), (np.float64, 16)):
        for sizes in ((1, 1, 1), (128, 784, 128), (8192, 1024, 1024), (100_000, 64, 64)):
            rows, columns, depth = sizes
            first, *_ = names = [*ranked_tiles(device, "linear_forward", sizes, dtype, copy)]
            assert first == choose_tile(device, rows, columns, dtype, copy).name
            tiles = tiles_for(device, dtype, copy)
            assert len(names) == len(set(names)) == len(tiles)
            grads, *_ = ranked_tiles(device, "linear_grads", sizes, dtype, copy)
            assert grads == choose_shares(device, rows, columns, depth, tiles)[0].name


def tiles_of(launches):
    """Names of kernels -> (rows, columns) of the tiles that they have, of all launches."""
    found = {}
    for launch in launches:
        macros = dict(launch.kernel.macros)
        if "TILE_ROWS" in macros:
            tile = macros["TILE_ROWS"], macros["TILE_COLUMNS"]
            found.setdefault(launch.kernel.name, set()).add(tile)
    return found


@pytest.fixture
def quickly(monkeypatch):
    """Few repetitions, since every measured kernel is run on the host."""
    monkeypatch.setattr(choices_module, "ROUNDS", 2)
    monkeypatch.setattr(products_module, "MOST_OF_GRAPH", 2)


def fit():
    net = classifier("cuda", "float32", hidden=16)
    trainer_of(net, batch_size=32).fit(*digits(64), 1)
    return net


def test_a_recorded_step_uses_what_was_measured(cupy, folder, quickly, monkeypatch):
    """The tile that the stand-in lets be fast, and not the rule of thumb."""
    recorded = []
    graph = mlp.backends.cuda.device.CudaDevice.graph
    monkeypatch.setattr(
        mlp.backends.cuda.device.CudaDevice,
        "graph",
        lambda self, launches: recorded.append(launches) or graph(self, launches),
    )
    cupy.machine.cost = lambda kernel: 1.0 if "TILE_ROWS=64" in kernel else 5.0
    fit()
    of_steps = tiles_of(recorded[-1])
    assert of_steps == {name: {(64, 64)} for name in of_steps}
    assert set(of_steps) == {"linear_forward", "linear_delta", "linear_grads"}
    entries = json.loads(kept_file(folder).read_text())["entries"]
    assert {entry["choice"] for entry in entries.values()} == {"64x64x16x2"}
    # What was measured: each candidate's own arrays, so many times in one graph.
    assert any(len(launches) == 2 for launches in recorded[:-1])


def test_measuring_writes_to_arrays_of_its_own(cupy, folder, quickly):
    backend = get_backend("cuda")
    x, delta, out, dW = (backend.from_host(np.full((8, 8), v), np.float32) for v in (1, 2, 3, 4))
    with backend.on.recorded() as launches:
        backend.linear_grads(x, delta, dW, None)
        backend.linear_forward(x, delta, x[0], "relu", out, None)
    assert len(launches) == 2
    assert len(json.loads(kept_file(folder).read_text())["entries"]) == 2
    for array, value in ((x, 1), (delta, 2), (out, 3), (dW, 4)):
        assert (backend.to_host(array) == value).all()


def test_measuring_changes_no_number(folder, quickly, monkeypatch):
    with machine():
        ours = fit()
    monkeypatch.setenv("MLP_CUDA_TUNE", "0")
    with machine():
        theirs = fit()
    assert_same_network(
        ours, theirs
    )  # every kernel takes as long here, so the choices are the same


def test_a_later_run_measures_nothing(folder, quickly, monkeypatch):
    def cost(kernel):
        return 1.0 if "TILE_ROWS=64" in kernel else 5.0

    with machine(cost=cost):
        first = fit()
    monkeypatch.setattr(Choices, "_measure", lambda *arguments: pytest.fail("measured again"))
    with machine():
        assert_same_network(fit(), first)


@pytest.mark.gpu
def test_on_a_device(folder):
    mlp.backends._make.cache_clear()
    first = fit()
    entries = json.loads(kept_file(folder).read_text())["entries"].values()
    assert entries
    for entry in entries:
        assert 0 < entry["microseconds"][entry["choice"]] < 1e5
    mlp.backends._make.cache_clear()
    assert_same_network(fit(), first)
    mlp.backends._make.cache_clear()


def test_the_library_is_taken_where_it_is_faster(cupy, folder, quickly, run):
    cupy.machine.cost = lambda kernel: 0.1 if "ogue" in kernel or kernel == "cublasLt" else 5.0
    with library_installed() as library:
        fit()
        assert {kind for *_, kind in library.calls} == {"COMPUTE_32F"}
    entries = json.loads(kept_file(folder).read_text())["entries"]
    assert {entry["choice"] for entry in entries.values()} == {LIBRARY}
    # Where it cannot be loaded later, the choice is one of our tiles, and that is said.
    mlp.backends._make.cache_clear()
    with library_installed(missing=RuntimeError("gone")):
        lines = run("devices", "--kernels").out.splitlines()
        assert "cublasLt is not among the candidates: cublasLt cannot be used (gone)" in lines[1]
        of_entries = [line for line in lines if line.split("  ")[0] in entries]
        assert len(of_entries) == len(entries)
        assert all("('cublasLt' was faster but cannot be had" in line for line in of_entries)
        fit()  # with them
    # Where it is not installed, what was measured without it counts, which is nothing yet.
    mlp.backends._make.cache_clear()
    assert get_backend("cuda").choices.kept.table.entries == {}


def test_single_calls_measure_nothing(cupy, folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier("cuda").forward(np.zeros((5, 64)))
    assert not list(folder.iterdir())


def test_no_scratch_memory(folder):
    with machine(memory=9 * 2**20):
        trainer = trainer_of(classifier("cuda", hidden=1500), batch_size=300)
        with pytest.warns(RuntimeWarning, match="for want of memory"):
            trainer.fit(*digits(300), 1)


# --- the command ----------------------------------------------------------------------------------


def test_the_command_lists_choices_and_where_they_come_from(cupy, folder, shipped, run):
    one, two = (
        str(ProductKey.of("linear_forward", (rows, 512, 512), "float32", 16)) for rows in (64, 512)
    )
    tile = ranked_tiles(Device((9, 0), 4), "linear_forward", (64, 512, 512), np.float32, 16)
    first, second, *_ = tile
    shipped({two: measured(second, **{first: 9.0, second: 8.25})})
    mlp.backends._make.cache_clear()
    backend = get_backend("cuda")
    for key, times in ((one, {first: 5.0, second: 4.5}), ("steps", {"graph": 2.0, "other": 3.0})):
        backend.choices.fastest(key, Ways(backend.on, cupy.machine, **times).functions)
    for text in (run("devices", "--kernels").out, run("devices", "--kernels").out):
        lines = text.splitlines()
        assert lines[0] == "Stand-in, compute capability 9.0"
        assert lines[1].startswith("cublasLt is not among the candidates: nvmath-python, which")
        assert f"measured choices are kept in {kept_file(folder)}" in lines
        of_key = {line.split("  ")[0]: line for line in lines}
        today = backend.choices.kept.table.entries[one].date
        assert re.search(rf"{re.escape(second)} +4\.5 us  measured here {today}$", of_key[one])
        assert re.search(r"8\.2 us  shipped table 2026-11-22$", of_key[two])
        assert re.search(r"graph +2\.0 us  measured here", of_key["steps"])
        assert sum("rule of thumb" in line for line in lines) > 30
        mlp.backends._make.cache_clear()  # as in another process
    found = run("devices", "--kernels", "--json").json()
    assert Table.from_json(found["table"]).entries.keys() == {one, "steps"}
    rows = {row["key"]: row for row in found["choices"]}
    assert rows[one]["product"]["rows"] == 64
    assert (rows[two]["source"], rows["steps"]["name"]) == (TABLE, "graph")
    assert found["library"]["reason"]
    with library_installed():
        mlp.backends._make.cache_clear()
        found = run("devices", "--kernels", "--json", "--device", "cuda").json()
    assert found["library"] == {"name": LIBRARY, "version": "13.1.0", "reason": None}


def test_the_command_where_nothing_is_measured(cupy, run):
    text = run("devices", "--kernels").out
    assert "MLP_CUDA_TUNE=0: nothing is measured, and what was measured is not used" in text
    assert run("devices", "--kernels", "--device", "cuda:3").code == 1
