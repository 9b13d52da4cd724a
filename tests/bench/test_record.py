"""Records: the same after a trip through a file, and one sentence about files that are none."""

import json

import pytest

from bench.machine import describe_machine, describe_source, slug, slug_of_gpu, versions
from bench.record import UnreadableRecord, read_record
from tests.bench.records import gpu_record, on_a_gpu, record, three_peers


def test_round_trip(tmp_path) -> None:
    path = tmp_path / "new" / "record.json"
    written = record(three_peers())
    written.write(path)
    assert read_record(path) == written
    assert [entry.name for entry in path.parent.iterdir()] == ["record.json"]


def test_round_trip_of_a_gpu(tmp_path) -> None:
    path = tmp_path / "record.json"
    written = gpu_record(on_a_gpu(), beside="other.json")
    written.write(path)
    assert read_record(path) == written


def test_a_record_of_before_there_were_gpus(tmp_path) -> None:
    """Fields that only a GPU's record has may be missing."""
    data = record(three_peers()).to_json()
    for name in ("gpu", "copies", "kernels", "beside"):
        del data[name]
    for peer in data["cases"][0]["peers"].values():
        del peer["device_rates"]
    path = tmp_path / "record.json"
    path.write_text(json.dumps(data))
    assert read_record(path) == record(three_peers())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        ("{", "not a record"),
        ("[]", "not a record"),
        ('{"format": 1}', "not a record"),
        ('{"format": 99}', "another version"),
    ],
)
def test_no_record(tmp_path, content, said) -> None:
    path = tmp_path / "record.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UnreadableRecord, match=said):
        read_record(path)


def test_machine_is_plain_data() -> None:
    machine = describe_machine()
    assert machine["cores"] >= 1
    assert json.loads(json.dumps([machine, versions(), describe_source()]))
    assert {"python", "mlp", "numpy", "numba"} <= set(versions())


def test_slug() -> None:
    xeon = {"cpu": "Intel(R) Xeon(R) Platinum 8480C CPU @ 2.00GHz", "cores": 2}
    assert slug(xeon) == "intel-xeon-platinum-8480c-2-cores"
    assert slug({"cpu": "AMD EPYC", "cores": 1}) == "amd-epyc-1-core"
    assert slug_of_gpu({"name": "NVIDIA H100 80GB HBM3"}) == "nvidia-h100-80gb-hbm3"
