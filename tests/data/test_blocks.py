"""Arrays and files as blocks of rows, and which rows are held out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from mlp.data import blocks as blocks_module
from mlp.data.blocks import ArrayBlocks, RowBlocks, npy_blocks, row_count
from mlp.data.holdout import PartOfBlocks, held_out
from mlp.data.memory import as_bytes, available_memory, in_words, peak_bytes, resident_bytes
from mlp.errors import InvalidInput, InvalidSetting

ROWS, COLUMNS = 1003, 6
A = np.random.default_rng(0).standard_normal((ROWS, COLUMNS))
Y = np.arange(ROWS)
W = np.random.default_rng(1).random(ROWS)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks_module, "BLOCK_BYTES", 100 * COLUMNS * 8)


def read_all(source, rows=7):
    """X (dense), y and weights of all blocks, read in pieces of at most so many rows."""
    pieces = []
    for block, size in enumerate(source.sizes):
        of_block = list(source.read(block, rows))
        assert sum(map(len, of_block)) == size
        assert all(len(piece) <= rows for piece in of_block)
        pieces += of_block
    X = [p.X.toarray() if sparse.issparse(p.X) else p.X for p in pieces]
    weights = [p.weight for p in pieces]
    weight = None if weights[0] is None else np.concatenate(weights)
    return np.concatenate(X), np.concatenate([p.y for p in pieces]), weight


@pytest.mark.parametrize("weighted", [False, True])
def test_an_array(weighted):
    source = ArrayBlocks(A, Y, W if weighted else None)
    assert isinstance(source, RowBlocks)
    assert source.sizes == (100,) * 10 + (3,)
    assert row_count(source) == ROWS
    assert source.weighted == weighted
    X, y, weight = read_all(source)
    np.testing.assert_array_equal(X, A)
    np.testing.assert_array_equal(y, Y)
    assert (weight is None) == (not weighted)
    if weighted:
        np.testing.assert_array_equal(weight, W)
    assert source.where(2) == "X, rows 200 to 299"


@pytest.mark.parametrize("kind", [sparse.csr_array, sparse.csc_matrix, sparse.coo_array])
def test_a_sparse_matrix(kind):
    thin = np.where(np.abs(A) > 1, A, 0)
    X, y, _ = read_all(ArrayBlocks(kind(thin), Y))
    np.testing.assert_array_equal(X, thin)
    np.testing.assert_array_equal(y, Y)


VIEWS = {
    "whole": lambda m: m,
    "columns": lambda m: m[:, 1:-1],
    "every third row": lambda m: m[5:900:3],
    "backwards": lambda m: m[::-1, ::2],
    "transposed twice": lambda m: m.T.T,
}


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("view", VIEWS)
def test_mapped_files_are_read_and_not_mapped(view, order, tmp_path, monkeypatch):
    np.save(tmp_path / "rows.npy", np.asarray(A, order=order))
    mapped = VIEWS[view](np.load(tmp_path / "rows.npy", mmap_mode="r"))
    expected = VIEWS[view](A)
    monkeypatch.setattr(np, "array", None)  # what would copy from the map
    source = ArrayBlocks(mapped, mapped[:, -1])
    assert len(source.sizes) > 2
    X, y, _ = read_all(source)
    assert not isinstance(X, np.memmap)
    np.testing.assert_array_equal(X, expected)
    np.testing.assert_array_equal(y, expected[:, -1])


def test_of_a_file_by_columns_no_more_is_read_than_needed(tmp_path, monkeypatch):
    np.save(tmp_path / "rows.npy", np.asfortranarray(A))
    sizes, place = [], blocks_module._place_in_file

    def noted(mapped):
        found = place(mapped)
        sizes.append(found[2])
        return found

    monkeypatch.setattr(blocks_module, "_place_in_file", noted)
    read_all(ArrayBlocks(np.load(tmp_path / "rows.npy", mmap_mode="r"), Y))
    assert sum(sizes) == A.nbytes


def test_a_map_with_an_offset_and_one_that_is_written(tmp_path):
    for mode in ("w+", "r+", "c"):
        mapped = np.memmap(tmp_path / "raw", np.float32, mode, offset=5000, shape=(500, 3))
        if mode != "r+":
            mapped[:] = np.arange(1500).reshape(500, 3) + (mode == "c")
        mapped.flush()
        X, _, _ = read_all(ArrayBlocks(mapped, mapped[:, 0]))
        np.testing.assert_array_equal(X, np.arange(1500).reshape(500, 3) + (mode == "c"))


def test_a_file_that_shrinks_or_vanishes(tmp_path):
    path = tmp_path / "rows.npy"
    np.save(path, A)
    source = ArrayBlocks(np.load(path, mmap_mode="r"), Y)
    with path.open("r+b") as file:
        file.truncate(20_000)
    next(source.read(0, 10))
    with pytest.raises(InvalidInput, match=r"rows\.npy: became shorter while it was read"):
        list(source.read(9, 100))
    path.unlink()
    with pytest.raises(InvalidInput, match=r"rows\.npy: cannot be read any more: No such file"):
        list(source.read(0, 10))


def test_npy_files(tmp_path):
    np.save(tmp_path / "X.npy", A)
    np.save(tmp_path / "y.npy", Y)
    source = npy_blocks(tmp_path / "X.npy", tmp_path / "y.npy")
    assert source.name == str(tmp_path / "X.npy")
    X, y, _ = read_all(source)
    np.testing.assert_array_equal(X, A)
    np.testing.assert_array_equal(y, Y)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file"),
        (b"", "not a readable .npy file"),
        (b"\x93NUMPY\x01\x00", "not a readable .npy file"),
        (b"some,text\n1,2\n", "not a readable .npy file"),
    ],
)
def test_files_that_are_no_arrays(content, message, tmp_path):
    path = tmp_path / "X.npy"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInput, match=message) as caught:
        npy_blocks(path, path)
    assert "\n" not in str(caught.value)


def test_what_is_refused():
    with pytest.raises(InvalidInput, match="y has 3 rows, but X has 1003"):
        ArrayBlocks(A, Y[:3])
    with pytest.raises(InvalidInput, match="sample_weight has 3 rows"):
        ArrayBlocks(A, Y, W[:3])
    with pytest.raises(InvalidInput, match=r"not of shape \(1003,\)"):
        ArrayBlocks(Y, Y)
    with pytest.raises(InvalidInput, match=r"not of shape \(0, 6\)"):
        ArrayBlocks(A[:0], Y[:0])


# --- rows held out --------------------------------------------------------------------------------


def test_a_row_is_held_out_by_its_number_alone():
    whole = held_out(3, 0, 5000, 0.2)
    for first, count in ((0, 1), (1, 7), (333, 1000), (4999, 1)):
        part = held_out(3, first, count, 0.2)
        np.testing.assert_array_equal(part, whole[first : first + count])
    assert abs(whole.mean() - 0.2) < 4 * np.sqrt(0.2 * 0.8 / 5000)
    assert (held_out(4, 0, 5000, 0.2) != whole).any()
    assert not held_out(3, 0, 100, 0.0).any()
    assert held_out(3, 0, 100, 1.0).all()


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array])
def test_the_two_parts_are_all_rows(kind):
    X, seed = kind(A), 8
    rest, out = (
        PartOfBlocks(ArrayBlocks(X, Y, W), 0.3, seed, of_held_out=held) for held in (False, True)
    )
    mask = held_out(seed, 0, ROWS, 0.3)
    for part, taken in ((out, mask), (rest, ~mask)):
        found, y, weight = read_all(part)
        np.testing.assert_array_equal(found, A[taken])
        np.testing.assert_array_equal(y, Y[taken])
        np.testing.assert_array_equal(weight, W[taken])
    assert row_count(out) + row_count(rest) == ROWS
    assert out.where(1) == "X, rows 100 to 199"


# --- sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1GB", 10**9), ("512 MiB", 512 * 2**20), ("2.5g", 2_500_000_000), ("1000", 1000),
        ("1 kib", 1024), (" 3 tb ", 3 * 10**12), (77, 77), (np.int64(5), 5), ("8B", 8),
    ],
)  # fmt: skip
def test_sizes(text, size):
    assert as_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "1 GB 2", "1XB", "1e9", 0, -5, 1.5, None, True])
def test_sizes_that_are_none(text):
    with pytest.raises(InvalidSetting, match="memory_limit must be a number of bytes, or like"):
        as_bytes(text)


def test_memory_of_this_process():
    assert 0 < resident_bytes() <= peak_bytes() < available_memory()
    assert in_words(1536) == "1.54 KB"
