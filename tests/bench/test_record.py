"""Records: the same after a trip through a file, and one sentence about files that are none."""

import json

import pytest

from bench.machine import describe_machine, describe_source, slug, versions
from bench.record import UnreadableRecord, read_record
from tests.bench.records import record, three_peers


def test_round_trip(tmp_path) -> None:
    path = tmp_path / "new" / "record.json"
    written = record(three_peers())
    written.write(path)
    assert read_record(path) == written
    assert [entry.name for entry in path.parent.iterdir()] == ["record.json"]


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
