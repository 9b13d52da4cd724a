"""`python -m bench`: mistakes are one sentence, a run leaves a record, an interrupt ends it."""

import json
from pathlib import Path

import pytest

import bench.cli
from bench.cases import CASES
from bench.machine import usable_cores
from bench.record import read_record
from tests.bench.records import record, three_peers

FAILURE, USAGE, INTERRUPTED = 1, 2, 130


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """run("cpu", ...) in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = bench.cli.run([str(argument) for argument in arguments])
        return code, *capfd.readouterr()

    return call


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ("cpu --cases tinny", USAGE, "unknown case 'tinny'; did you mean 'tiny'?"),
        ("cpu --cases tiny,", USAGE, "unknown case ''"),
        ("cpu --peers torch", USAGE, "Valid: ours, torch-eager, torch-compile, jax, sklearn"),
        ("cpu --repeats 0", USAGE, "--repeats"),
        ("cpu --seconds -1", USAGE, "--seconds"),
        (f"cpu --threads {usable_cores() + 1}", USAGE, f"at most {usable_cores()}"),
        ("cpu --reps 3", USAGE, "--repeats"),
        ("gpu", USAGE, "gpu"),
        ("show", USAGE, "FILE"),
        ("show missing.json", FAILURE, "missing.json: No such file"),
    ],
)
def test_mistakes(run, arguments, code, said) -> None:
    found, out, err = run(*arguments.split())
    assert found == code
    assert said in err
    assert out == ""
    assert "Traceback" not in err


def test_show(run) -> None:
    record(three_peers()).write(Path("record.json"))
    code, out, _ = run("show", "record.json")
    assert code == 0
    assert "times the best peer, slow" in out
    code, out, _ = run("show", "record.json", "--markdown", "--picture", "picture.png")
    assert code == 0
    assert out.startswith("| case |")
    assert Path("picture.png").read_bytes().startswith(b"\x89PNG")


def test_names_keep_the_order_of_the_table() -> None:
    assert [case.name for case in bench.cli.pick("case", "wide, tiny", CASES)] == ["tiny", "wide"]
    assert bench.cli.pick("case", None, CASES) == list(CASES.values())


def test_a_free_path(tmp_path) -> None:
    path = tmp_path / "a-cpu.json"
    assert bench.cli.free_path(path) == path
    path.touch()
    (tmp_path / "a-cpu-2.json").touch()
    assert bench.cli.free_path(path).name == "a-cpu-3.json"


@pytest.fixture
def no_measurements(monkeypatch):
    monkeypatch.setattr(bench.cli, "measure_peaks", lambda *_: {"float32": {"numpy": 100.0}})
    monkeypatch.setattr(bench.cli, "run_cases", lambda *_: iter([three_peers()]))


@pytest.mark.usefixtures("no_measurements")
def test_a_run_leaves_a_record_and_a_picture(run) -> None:
    code, out, _ = run("cpu", "--cases", "tiny", "--output", "new/record.json", "--threads", 1)
    assert code == 0
    assert "times the best peer, slow" in out
    found = read_record(Path("new/record.json"))
    assert found.cases == [three_peers()]
    assert found.settings == {"threads": 1, "repeats": 5, "seconds": 1.0}
    assert json.loads(Path("new/record.json").read_text())["machine"] == found.machine
    assert Path("new/record.png").exists()


@pytest.mark.usefixtures("no_measurements")
def test_an_interrupt_keeps_the_cases_that_are_done(run, monkeypatch) -> None:
    def interrupted(*_):
        yield three_peers()
        raise KeyboardInterrupt

    monkeypatch.setattr(bench.cli, "run_cases", interrupted)
    code, out, err = run("cpu", "--output", "record.json")
    assert (code, out) == (INTERRUPTED, "")
    assert "interrupted" in err
    assert len(read_record(Path("record.json")).cases) == 1


@pytest.mark.usefixtures("no_measurements")
def test_an_output_that_cannot_be_written(run) -> None:
    Path("file").touch()
    code, _, err = run("cpu", "--output", "file/record.json")
    assert code == FAILURE
    assert "file" in err
