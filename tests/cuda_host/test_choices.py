"""Choices among kernels: what they go by, what is measured, what is kept for other processes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from mlp.backends import get_backend
from mlp.backends.cuda import choices as choices_module
from mlp.backends.cuda.choices import KEPT, NEAREST, RULE, TABLE, Choices
from mlp.backends.cuda.kept import cache_folder
from mlp.errors import BackendUnavailable, DeviceOutOfMemory, InvalidSetting
from mlp_kernels.cuda import convert
from mlp_kernels.cuda.compile import source_digest
from mlp_kernels.cuda.tune import ProductKey
from tests.cuda_host.choosing import Ways, device, folder, kept_file, measured, shipped

__all__ = ["device", "folder", "shipped"]  # fixtures


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
    choice = Choices(device).choose("steps", ("a", "b", "c"), lambda: never.functions)
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
