"""`python -m bench`: mistakes are one sentence, a run leaves a record, an interrupt ends it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import bench.cli
from bench.cases import CASES
from bench.kernels import KERNELS
from bench.machine import usable_cores
from bench.peers import GPU_PEERS
from bench.record import read_record
from tests.bench.records import GPU, gpu_record, on_a_gpu, record, three_peers

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
        ("gpu --cases predict-9", USAGE, "unknown case 'predict-9'"),
        ("gpu --peers sklearn", USAGE, "ours, torch-eager, torch-compile, torch-graph, jax"),
        ("gpu --only peers", USAGE, "'cases', 'kernels'"),
        ("tpu", USAGE, "tpu"),
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


def test_without_a_gpu_it_says_so_in_one_line(run, monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    code, out, err = run("gpu", "--output", "record.json")
    assert (code, out) == (FAILURE, "")
    assert err.startswith("bench: there is no GPU to measure on: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert not Path("record.json").exists()


def test_show_of_a_gpu(run) -> None:
    record(three_peers()).write(Path("cpu.json"))
    gpu_record(on_a_gpu(), beside="cpu.json").write(Path("gpu.json"))
    code, out, _ = run("show", "gpu.json")
    assert code == 0
    assert "torch-graph" in out
    assert "ours, cpu" in out
    code, out, _ = run("show", "gpu.json", "--markdown", "--picture", "picture.png")
    assert code == 0
    assert "| ours 20,000, slow 40,000 |" in out
    assert Path("picture.png").read_bytes().startswith(b"\x89PNG")


def test_a_record_beside_that_is_gone(run) -> None:
    gpu_record(on_a_gpu(), beside="gone.json").write(Path("gpu.json"))
    code, out, err = run("show", "gpu.json")
    assert (code, out) == (FAILURE, "")
    assert "gone.json: No such file" in err


def test_the_latest_record_of_a_processor(tmp_path) -> None:
    assert bench.cli.latest_cpu_record(tmp_path) is None
    for name, date in (("b-cpu", "2026-11-21"), ("a-cpu-2", "2026-11-22"), ("c-gpu", "2026-11-23")):
        replace(record(three_peers()), date=date).write(tmp_path / f"{name}.json")
    found = bench.cli.latest_cpu_record(tmp_path)
    assert found is not None
    assert found.name == "a-cpu-2.json"


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


@pytest.mark.parametrize(
    ("only", "cases", "kernels"),
    [([], 1, len(KERNELS)), (["--only", "cases"], 1, 0), (["--only", "kernels"], 0, len(KERNELS))],
)
def test_a_run_on_a_gpu(run, monkeypatch, only, cases, kernels) -> None:
    asked = {}

    def measure(record, cases, peers, kernels, settings, progress):
        asked.update(cases=cases, peers=peers, kernels=kernels, began=record)
        yield replace(gpu_record(on_a_gpu()), beside=record.beside)

    monkeypatch.setattr(bench.cli, "describe", lambda settings: GPU)
    monkeypatch.setattr(bench.cli, "measure", measure)
    code, out, _ = run("gpu", "--cases", "digits", "--output", "record.json", *only)
    assert code == 0
    assert "torch-graph" in out
    assert [len(asked["cases"]), len(asked["kernels"])] == [cases, kernels]
    assert [peer.device for peer in asked["peers"]] == ["cuda"] * len(GPU_PEERS)
    assert asked["began"].gpu == GPU
    beside = bench.cli.latest_cpu_record(bench.cli.RESULTS)
    assert beside is not None
    assert read_record(Path("record.json")).beside == beside.name
    assert Path("record.png").exists()


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
