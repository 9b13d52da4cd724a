"""Choices among kernels: what they go by, what is measured, what is kept for other processes."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

import mlp.backends
from mlp.backends import get_backend
from mlp.backends.cuda import choices as choices_module
from mlp.backends.cuda import products as products_module
from mlp.backends.cuda.backend import CupyBackend
from mlp.backends.cuda.choices import KEPT, NEAREST, RULE, TABLE, Choices
from mlp.backends.cuda.kept import cache_folder
from mlp.backends.cuda.products import LIBRARY, ranked_tiles
from mlp.errors import BackendUnavailable, DeviceOutOfMemory, InvalidSetting
from mlp_kernels.cuda import convert
from mlp_kernels.cuda.compile import source_digest
from mlp_kernels.cuda.tiles import Device, choose_shares, choose_tile, tiles_for
from mlp_kernels.cuda.tune import Measured, ProductKey, Table
from tests.cli.conftest import run
from tests.cuda_host.cublas_stand_in import library_installed
from tests.cuda_host.runs import assert_same_network, classifier, digits, machine, trainer_of

__all__ = ["run"]  # a fixture

NAMES = ("a", "b", "c")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Measuring is on, and what it finds is kept here."""
    monkeypatch.setenv("MLP_CUDA_TUNE", "1")
    monkeypatch.setenv("MLP_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(CupyBackend, "tiny_steps", "graph")  # steps are made of products
    monkeypatch.setattr(CupyBackend, "fused_chain", False)
    return tmp_path


@pytest.fixture
def device(cupy):
    return get_backend("cuda").on


class Ways:
    """Candidates that take so many microseconds of a device's time, and count their calls."""

    def __init__(self, device, machine, **times):
        self.calls = dict.fromkeys(times, 0)
        self.functions = {name: self._way(device, machine, name, t) for name, t in times.items()}

    def _way(self, device, machine, name, time):
        def run():
            self.calls[name] += 1
            if isinstance(time, Exception):
                raise time

            def work():
                machine.clock += time[self.calls[name] % len(time)] if isinstance(
                    time, list
                ) else time  # fmt: skip

            device.stream.add(work)

        return run


def kept_file(folder: Path) -> Path:
    (path,) = folder.rglob("*.json")
    return path


# --- measuring ------------------------------------------------------------------------------------


def test_the_fastest_is_measured_and_kept(cupy, device, folder):
    ways = Ways(device, cupy.machine, a=30.0, b=10.0, c=20.0)
    choices = Choices(device)
    assert choices.fastest("steps", ways.functions, calls=10) == "b"
    assert set(ways.calls.values()) == {1 + choices_module.ROUNDS}
    assert choices.fastest("steps", ways.functions, calls=10) == "b"
    assert set(ways.calls.values()) == {1 + choices_module.ROUNDS}, "once"
    entry = json.loads(kept_file(folder).read_text())["entries"]["steps"]
    assert entry["microseconds"] == {"a": 3.0, "b": 1.0, "c": 2.0}
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", entry["date"])

    never = Ways(device, cupy.machine, a=1.0, b=10.0, c=20.0)
    choice = Choices(device).choose("steps", NAMES, lambda: never.functions)
    assert (choice.name, choice.source, choice.microseconds) == ("b", KEPT, 1.0)
    assert not any(never.calls.values()), "another process measures nothing"


def test_the_median_counts(cupy, device, folder):
    ways = Ways(device, cupy.machine, a=[5.0, 5.0, 5.0, 5.0, 900.0], b=6.0)
    assert Choices(device).fastest("k", ways.functions) == "a"


def test_of_equals_the_rule_of_thumb(cupy, device, folder):
    assert Choices(device).fastest("k", Ways(device, cupy.machine, a=5.0, b=5.0).functions) == "a"


def test_measured_while_steps_are_recorded_nothing_is_noted(cupy, device, folder):
    numbers, copy = (device.empty((4,), np.float32) for _ in range(2))

    def twice():
        for _ in range(2):
            device.submit(convert.convert(numbers, copy))

    once = Ways(device, cupy.machine, b=1.5).functions
    with device.recorded() as launches:
        assert Choices(device).fastest("k", {"twice": twice, **once}) == "b"
        assert device.recording
    assert launches == []


def test_a_candidate_that_cannot_be_had_is_left_out(cupy, device, folder):
    ways = Ways(device, cupy.machine, a=5.0, b=BackendUnavailable("no such algorithm"))
    choices = Choices(device)
    assert choices.fastest("k", ways.functions) == "a"
    assert choices.remarks == ["k: 'b' is left out (no such algorithm)"]


def test_no_memory_to_measure_with(cupy, device, folder):
    ways = Ways(device, cupy.machine, a=DeviceOutOfMemory("full"), b=1.0)
    choices = Choices(device)
    with pytest.warns(RuntimeWarning, match=r"k: not measured, for want of memory \(full\)"):
        choice = choices.choose("k", ("a", "b"), lambda: ways.functions)
    assert (choice.name, choice.source, choice.microseconds) == ("a", KEPT, None)
    assert choice.note == "not measured, for want of time or memory; kept, so that runs repeat"
    roomy = Ways(device, cupy.machine, a=2.0, b=1.0)
    assert Choices(device).fastest("k", roomy.functions) == "a", "the next run repeats this one"


class Clock:
    """The host's time, which goes on by so many seconds with each look."""

    def __init__(self, step):
        self.now, self.step = 0.0, step

    def __call__(self):
        self.now += self.step
        return self.now


def test_time_for_one_key_is_limited(cupy, device, folder):
    ways = Ways(device, cupy.machine, a=3.0, b=2.0, c=1.0)
    choices = Choices(device, clock=Clock(choices_module.SECONDS_OF_KEY * 0.6))
    assert choices.fastest("k", ways.functions) == "b"
    assert ways.calls == {"a": 2, "b": 2, "c": 0}, "one round of what was ready in time"
    assert choices.fastest("k", ways.functions) == "b", "for the rest of this process"
    assert ways.calls["b"] == 2
    assert Choices(device).fastest("k", ways.functions) == "b", "and of the next: runs repeat"
    kept_file(folder).unlink()
    assert Choices(device).fastest("k", ways.functions) == "c"


def test_nothing_is_measured_where_every_kernel_is_waited_for(cupy, folder, monkeypatch):
    monkeypatch.setenv("MLP_CUDA_CHECK", "1")
    device = get_backend("cuda").on
    ways = Ways(device, cupy.machine, a=2.0, b=1.0)
    assert Choices(device).choose("k", ("a", "b"), lambda: ways.functions).source == RULE


def test_a_terminal_is_told_once(cupy, device, folder, monkeypatch, capsys):
    ways = Ways(device, cupy.machine, a=2.0, b=1.0)
    Choices(device).fastest("one", ways.functions)
    assert capsys.readouterr().err == ""
    choices = Choices(device)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    for key in ("two", "three"):
        choices.fastest(key, ways.functions)
    assert capsys.readouterr().err.count("measuring kernels on this device") == 1


def test_time_of_a_process_is_limited(cupy, device, folder):
    choices = Choices(device, clock=Clock(choices_module.SECONDS_OF_PROCESS))
    ways = Ways(device, cupy.machine, a=2.0, b=1.0)
    with pytest.warns(RuntimeWarning, match="were measured for 30 seconds"):
        choices.fastest("first", ways.functions)
    calls = dict(ways.calls)
    choice = choices.choose("second", ("a", "b"), lambda: ways.functions)
    assert (choice.name, choice.microseconds, ways.calls) == ("a", None, calls)
    assert Choices(device).fastest("second", ways.functions) == "a", "the next run repeats this one"
    assert str(kept_file(folder)) in choices.remarks[0]


def test_a_measurement_within_another_is_not_of_its_time(cupy, device, folder):
    clock = Clock(0.0)
    choices = Choices(device, clock=clock)
    inner = Ways(device, cupy.machine, a=2.0, b=1.0)

    def slow():
        clock.now += 6
        return inner.functions["a"]()

    def outer():
        for key in ("one", "two"):
            choices.fastest(key, {"a": slow, "b": inner.functions["b"]})

    ways = Ways(device, cupy.machine, b=1.0)
    choices.fastest("outer", {"outer": outer, **ways.functions})
    assert clock.now > choices_module.SECONDS_OF_KEY
    assert ways.calls["b"] == 1 + choices_module.ROUNDS


# --- what else a choice goes by -------------------------------------------------------------------


@pytest.fixture
def shipped(monkeypatch):
    """A function that puts a table of the stand-in's device beside the kernels."""

    def ship(entries, name="Stand-in", capability=(9, 0)):
        table = Table(name, capability, "0x0", entries)
        monkeypatch.setattr("mlp_kernels.cuda.tune.shipped_tables", lambda: (table,))

    return ship


def measured(choice, **times):
    return Measured(choice, times or {choice: 1.0}, "2026-11-22")


def test_without_measuring_the_shipped_table_counts(cupy, device, folder, shipped, monkeypatch):
    key = str(ProductKey.of("linear_forward", (512, 512, 512), "float32", 16))
    near = str(ProductKey.of("linear_forward", (1024, 512, 512), "float32", 16))
    far = str(ProductKey.of("linear_forward", (64, 64, 8192), "float32", 16))
    shipped({key: measured("b")})
    ways = Ways(device, cupy.machine, a=1.0, b=2.0)
    monkeypatch.setenv("MLP_CUDA_TUNE", "0")
    choices = Choices(device)

    def found(wanted):
        choice = choices.choose(wanted, ("a", "b"), lambda: ways.functions)
        return choice.name, choice.source

    assert found(key) == ("b", TABLE)
    assert found(near) == ("b", NEAREST)
    assert found(far) == ("a", RULE)
    assert not any(ways.calls.values())
    assert not list(folder.iterdir()), "nothing is kept"
    shipped({key: measured("b")}, name="Another", capability=(9, 0))
    choices = Choices(device)
    assert found(key) == ("b", NEAREST)
    shipped({key: measured("b")}, name="Another", capability=(8, 0))
    choices = Choices(device)
    assert found(key) == ("a", RULE)


def test_what_is_kept_does_not_count_where_all_machines_are_to_choose_alike(
    cupy, device, folder, monkeypatch
):
    Choices(device).fastest("k", Ways(device, cupy.machine, a=2.0, b=1.0).functions)
    monkeypatch.setenv("MLP_CUDA_TUNE", "0")
    assert Choices(device).choose("k", ("a", "b")).source == RULE


def test_single_calls_are_not_measured_but_know_what_was(cupy, device, folder):
    choices = Choices(device)
    assert choices.choose("k", ("a", "b")).source == RULE
    choices.fastest("k", Ways(device, cupy.machine, a=2.0, b=1.0).functions)
    assert choices.choose("k", ("a", "b")).name == "b"


def test_a_kept_choice_that_cannot_be_had(cupy, device, folder):
    choices = Choices(device)
    choices.fastest("k", Ways(device, cupy.machine, a=3.0, b=2.0, c=1.0).functions)
    choice = choices.choose("k", ("a", "b"))
    assert (choice.name, choice.microseconds) == ("b", 2.0), "the best of the others"
    assert choice.note == "'c' was faster but cannot be had; this is the best of the rest"
    assert choices.choose("k", ("x", "y")).source == RULE


@pytest.mark.parametrize("setting", ["2", "yes"])
def test_settings_that_are_none(cupy, monkeypatch, setting):
    monkeypatch.setenv("MLP_CUDA_TUNE", setting)
    with pytest.raises(InvalidSetting, match=r"MLP_CUDA_TUNE is 1 \(measure\) or 0 \(never\)"):
        get_backend("cuda")


# --- the file -------------------------------------------------------------------------------------


def measure(device, machine, key="k"):
    choices = Choices(device)
    choices.fastest(key, Ways(device, machine, a=2.0, b=1.0).functions)
    return choices


def test_the_file_is_named_for_the_device_and_the_kernels(cupy, device, folder):
    measure(device, cupy.machine)
    path = kept_file(folder)
    assert path.parent == folder / "cuda"
    assert path.name == f"stand-in-9.0-{source_digest()[2:]}.json"
    assert Choices(device, ("tall",)).kept.path.stem == f"{path.stem}-tall"
    table = json.loads(path.read_text())
    assert (table["device"], table["capability"]) == ("Stand-in", [9, 0])


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"format": 99}', '{"format": 1, "entries": {"k": 5}}', "\x00\xff"],
)
def test_a_broken_file_is_said_once_and_replaced(cupy, device, folder, content):
    path = measure(device, cupy.machine).kept.path
    path.write_bytes(content.encode("latin-1"))
    with pytest.warns(RuntimeWarning, match="not readable, so choices are made anew") as caught:
        choices = measure(device, cupy.machine)
    assert len({str(each.message) for each in caught}) == len(caught) == len(choices.remarks) == 1
    assert set(json.loads(path.read_text())["entries"]) == {"k"}


def test_a_folder_that_cannot_be_written(cupy, device, folder, monkeypatch):
    (folder / "cuda").write_text("a file where a folder should be")
    with pytest.warns(RuntimeWarning, match="choices cannot be kept there"):
        choices = measure(device, cupy.machine)
    assert choices.choose("k", ("a", "b")).name == "b", "for this process"


def test_entries_of_another_process_stay(cupy, device, folder):
    first, second = Choices(device), Choices(device)
    for choices, key in ((first, "one"), (second, "two"), (first, "three")):
        choices.fastest(key, Ways(device, cupy.machine, a=2.0, b=1.0).functions)
    assert set(json.loads(kept_file(folder).read_text())["entries"]) == {"one", "two", "three"}


def test_where_the_cache_is(monkeypatch):
    for name in ("MLP_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setattr("sys.platform", "linux")
    assert cache_folder() == Path("/home/someone/.cache/fused-mlp")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == Path("/home/someone/.cache/fused-mlp")
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert cache_folder() == Path("/elsewhere/fused-mlp")
    monkeypatch.setattr("sys.platform", "darwin")
    assert cache_folder() == Path("/home/someone/Library/Caches/fused-mlp")
    monkeypatch.setenv("MLP_CACHE_DIR", "here")
    assert cache_folder() == Path("here")


# --- products -------------------------------------------------------------------------------------


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
