"""Tables of measured choices as data: keys and their classes, files, the nearest entry."""

from __future__ import annotations

import json
import math

import pytest

from mlp_kernels.cuda import tune
from mlp_kernels.cuda.tune import Measured, ProductKey, Table

ENTRY = Measured("64x64x32x4", {"64x64x32x4": 12.5, "cublasLt": 13.25}, "2026-11-22")


def key(sizes=(128, 256, 512), operation="linear_forward", numbers="bfloat16", copy=16):
    return ProductKey.of(operation, sizes, numbers, copy)


def table(*keys):
    return Table("A card", (9, 0), "0xabc", {str(each): ENTRY for each in keys})


def test_sizes_are_rounded_to_classes():
    assert str(key((128, 784, 1000))) == "linear_forward 128x768x1024 bfloat16 by 16"
    assert str(key((1, 10, 2))) == "linear_forward 8x12x8 bfloat16 by 16"
    assert str(key((10**6, 33_000, 10**7))) == "linear_forward 32768x32768x32768 bfloat16 by 16"


def test_a_class_is_not_wide():
    for size in range(8, 5000):
        rounded = key((size, size, size))
        assert rounded.rows == rounded.columns
        assert max(rounded.rows / size, size / rounded.rows) < 1.23
        assert max(rounded.depth / size, size / rounded.depth) < 1.42
        again = key((rounded.rows, rounded.columns, rounded.depth))
        assert again == rounded, "the middle of a class is of this class"


def test_keys_are_read_back():
    for each in (key(), key((1, 1, 1), "linear_grads", "tf32", 4)):
        assert ProductKey.parse(str(each)) == each
    for text in ("steps of digits", "linear_forward 1x2 float32 by 16", ""):
        assert ProductKey.parse(text) is None


def test_distances():
    assert key().distance(key()) == 0
    assert key().distance(key((256, 256, 512))) == 1
    assert key().distance(key((256, 128, 1024))) == 3, "each size counts, whichever way it differs"
    assert key().distance(key(copy=4)) == tune.OTHER_COPY
    assert key().distance(key(operation="linear_delta")) == math.inf
    assert key().distance(key(numbers="float16")) == math.inf


def test_the_nearest_entry():
    near, far = key((256, 256, 512)), key((512, 256, 512))
    assert table(far, near).nearest(str(key())) == (str(near), ENTRY)
    assert table(far, near, key()).nearest(str(key())) == (str(key()), ENTRY)
    assert table(key((8, 8, 8))).nearest(str(key())) is None, "too far to say anything"
    assert table(key(numbers="float16")).nearest(str(key())) is None
    assert Table("A card", (9, 0), "0x0").nearest(str(key())) is None
    steps = Table("A card", (9, 0), "0x0", {"steps 128": ENTRY})
    assert steps.nearest("steps 128") == ("steps 128", ENTRY)
    assert steps.nearest("steps 129") is None


def test_what_can_be_had_of_an_entry():
    entry = Measured("a", {"a": 1.0, "b": 3.0, "c": 2.0}, "2026-11-22")
    assert entry.best_of(["b", "a"]) == "a"
    assert entry.best_of(["b", "c", "d"]) == "c"
    assert entry.best_of(["d"]) is None
    assert entry.best_of([]) is None


def test_a_table_goes_through_a_file(tmp_path):
    path = tmp_path / "a-card.json"
    written = table(key(), key((8, 8, 8)))
    path.write_text(json.dumps(written.to_json()))
    assert tune.read_table(path) == written


@pytest.mark.parametrize(
    "value",
    [
        None, [], {}, {"format": 2}, {"format": 1, "entries": {}},
        {**table().to_json(), "capability": [9]},
        {**table().to_json(), "entries": {"k": {"choice": "a"}}},
        {**table().to_json(), "entries": {"k": {"choice": "a", "microseconds": {"a": "soon"}}}},
        {**table().to_json(), "entries": []},
    ],
)  # fmt: skip
def test_what_is_no_table(value):
    with pytest.raises(ValueError, match=r"not a table of choices|format 2|unpack|soon"):
        Table.from_json(value)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """In the place of the folder of shipped tables."""
    monkeypatch.setattr(tune, "FOLDER", tmp_path)
    tune.shipped_tables.cache_clear()
    yield tmp_path
    tune.shipped_tables.cache_clear()


def test_no_table_yet(folder):
    assert tune.tables_for("A card", (9, 0)) == ()


def test_tables_of_a_device_and_of_its_generation(folder):
    for name, capability in (("B", (9, 0)), ("A", (9, 0)), ("C", (8, 6)), ("D", (8, 0))):
        path = folder / f"{name}.json"
        path.write_text(json.dumps(Table(name, capability, "0x0").to_json()))
    assert [each.device for each in tune.tables_for("B", (9, 0))] == ["B", "A"]
    assert [each.device for each in tune.tables_for("X", (8, 9))] == ["C", "D"]
    assert tune.tables_for("X", (12, 0)) == ()


def test_the_tables_that_ship_can_be_read():
    assert (tune.FOLDER / "README.md").exists()
    for each in tune.shipped_tables():
        assert each.entries, each.device
        for entry in each.entries.values():
            assert entry.choice == min(entry.microseconds, key=entry.microseconds.get)
