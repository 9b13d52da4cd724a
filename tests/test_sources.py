"""Data sets by name and from files: what they hold, and files that cannot be read."""

import io
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from sklearn import datasets

from mlp.data.sources import BUNDLED, load_data
from mlp.errors import InvalidInput, InvalidSetting


@pytest.fixture
def write(tmp_path):
    def to(**arrays) -> str:
        np.savez(tmp_path / "data.npz", **arrays)
        return str(tmp_path / "data.npz")

    return to


X = np.arange(6.0).reshape(3, 2)


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled(name):
    data = load_data(name)
    bunch = getattr(datasets, f"load_{name}")()
    np.testing.assert_array_equal(data.X, bunch.data)
    assert (data.name, data.task) == (name, BUNDLED[name])
    if data.task == "regression":
        np.testing.assert_array_equal(data.y, bunch.target)
        assert data.classes is None
    else:
        assert list(data.classes) == bunch.target_names.tolist()
        codes = [data.classes.index(label) for label in data.y.tolist()]
        np.testing.assert_array_equal(codes, bunch.target)


def test_an_unknown_name():
    with pytest.raises(InvalidSetting, match="unknown data set 'digts'; did you mean 'digits'"):
        load_data("digts")


@pytest.mark.parametrize(
    ("y", "task", "classes"),
    [
        (np.array([2, 0, 2]), "classification", (0, 2)),
        (np.array(["b", "a", "b"]), "classification", ("a", "b")),
        (np.array([True, False, True]), "classification", (False, True)),
        (np.array([[1], [0], [1]]), "classification", (0, 1)),
        (np.array([1.5, 0.0, 2.0]), "regression", None),
        (np.array([[1.5], [0.0], [2.0]]), "regression", None),
        (X, "regression", None),
    ],
)
def test_files(y, task, classes, write):
    data = load_data(write(X=X, y=y, other=np.zeros(9)))
    np.testing.assert_array_equal(data.X, X)
    np.testing.assert_array_equal(data.y, y[:, 0] if y.shape == (3, 1) else y)
    assert (data.task, data.classes) == (task, classes)


def test_a_target_that_nobody_asked_for_may_be_unreadable(write):
    path = write(X=X, y=np.full(3, np.nan))
    data = load_data(path, need_target=False)
    assert data.y is None
    assert "y is not finite at row 0" in data.note
    with pytest.raises(InvalidInput, match="y is not finite"):
        load_data(path)


def test_a_target_may_be_missing_where_none_is_needed(write):
    data = load_data(write(X=X), need_target=False)
    assert (data.y, data.task, data.classes) == (None, None, None)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": X}, "the file has no array y"),
        ({"y": X}, "the file has no array X"),
        ({"x": X}, "the file has no array X and no array y"),
        ({"X": X, "y": np.zeros(2)}, r"y has shape \(2,\), but X has 3 rows"),
        ({"X": X, "y": np.float64(1)}, r"y must have 1 or 2 dimensions, not shape \(\)"),
        ({"X": X, "y": np.zeros((3, 1, 1))}, r"y must have 1 or 2 dimensions, not shape"),
        ({"X": X, "y": [0, np.nan, 1]}, "y is not finite at row 1; remove or fill that row"),
        ({"X": X * [1, np.inf], "y": [0, 1, 2]}, "X holds inf at row 0, column 1"),
        ({"X": np.zeros((0, 2)), "y": []}, r"X is empty: its shape is \(0, 2\)"),
        ({"X": [["a"], ["b"]], "y": [0, 1]}, "X must hold real numbers, not <U1"),
        ({"X": X, "y": [1j, 2, 3]}, "y must hold real numbers, not complex128"),
        ({"X": X, "y": np.full((3, 2), "a")}, "y must hold real numbers, not <U1"),
    ],
)
def test_files_that_do_not_hold_what_they_should(arrays, message, write):
    path = write(**arrays)
    with pytest.raises(InvalidInput, match=message) as caught:
        load_data(path)
    assert path in str(caught.value)


@pytest.mark.parametrize("ragged", [{"X": True}, {"y": True}])
def test_pickled_objects_are_refused(ragged, write):
    objects = np.empty(3, dtype=object)
    objects[:] = [[1], [1, 2], [3]]
    arrays = {"X": X, "y": np.zeros(3)} | dict.fromkeys(ragged, objects)
    with pytest.raises(InvalidInput, match=r"data\.npz: an array holds Python objects, which are"):
        load_data(write(**arrays))


def npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, X)
    return buffer.getvalue()


def archive() -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).random((40, 3)).round(1)
    np.savez_compressed(buffer, X=noise, y=np.arange(40))
    return buffer.getvalue()


def not_an_array() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("X.npy", b"hello")
        archive.writestr("y.npy", b"hello")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"PK\x03\x04", npy(), npy()[:50], archive()[:200], not_an_array()],
    ids=["empty", "text", "zip start", "npy", "half npy", "half npz", "no arrays"],
)
def test_files_that_are_something_else(content, tmp_path):
    path = tmp_path / "data.npz"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"data\.npz: "):
        load_data(str(path))


def test_a_changed_byte_is_either_harmless_or_one_clear_error(tmp_path):
    # The archive's reader fails in many ways: bad checksums, unknown methods, "encrypted" members.
    path, whole = tmp_path / "data.npz", archive()
    rng, refused = np.random.default_rng(1), 0
    for place in range(0, len(whole), 2):
        content = bytearray(whole)
        content[place] = rng.integers(256)
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of NumPy, about headers of an old format
            try:
                load_data(str(path))
            except InvalidInput:
                refused += 1
    assert refused > 100


def test_paths_that_are_no_npz_file(tmp_path):
    with pytest.raises(InvalidInput, match=r"gone\.npz: there is no such file"):
        load_data(str(tmp_path / "gone.npz"))
    with pytest.raises(InvalidInput, match=r"table\.csv: there is no such file"):
        load_data("table.csv")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(InvalidInput, match=r"folder\.npz: a folder"):
        load_data(str(tmp_path / "folder.npz"))


def test_one_dimensional_rows_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "flat.npz", X=np.arange(4.0), y=np.arange(4))
    with pytest.raises(InvalidInput, match=r"X has shape \(4,\)"):
        load_data(str(tmp_path / "flat.npz"))


def test_labels_of_bytes_become_text(tmp_path: Path) -> None:
    np.savez(tmp_path / "bytes.npz", X=np.eye(2), y=np.array([b"no", b"yes"]))
    assert load_data(str(tmp_path / "bytes.npz")).classes == ("no", "yes")
