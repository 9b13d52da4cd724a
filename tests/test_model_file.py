"""Model files: what is loaded is what was saved, bit for bit, or one clear error."""

import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save, save_file

import mlp
from mlp.errors import ModelFileError
from tests.problems import network, rows


@pytest.fixture
def net(backend):
    made = network(4, [mlp.Dense(6, "gelu", dropout=0.2), (3, "softmax")], backend, "float32")
    made.preprocessing = mlp.Standardizer.fit(3 * rows(10, 4) + 1)
    made.classes = ("cat", "dög", "eel")
    made.loss = "cross_entropy"
    made.metadata = {"data": "pets", "folds": [1, 2, {"n": 0.1}]}
    return made


def document(path) -> dict:
    """The model file's JSON, read with nothing but safetensors' own file layout."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    return json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["fused_mlp"])


def rewrite(path, change) -> None:
    """Writes the file again with a changed document."""
    text = document(path)
    change(text)
    save_file(load_file(path), path, metadata={"fused_mlp": json.dumps(text)})


# --- round trip -----------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_round_trip_bit_for_bit(precision, tmp_path, backend):
    saved = network(4, [(6, "gelu"), (3, "softmax")], backend, precision, seed=2**62 + 1)
    saved.save(tmp_path / "a.safetensors")
    loaded = mlp.load(tmp_path / "a.safetensors", device=backend.name)
    assert loaded.spec == saved.spec
    assert (loaded.precision, loaded.seed, loaded.device) == (precision, 2**62 + 1, backend.name)
    assert (loaded.preprocessing, loaded.classes, loaded.loss) == (None, None, None)
    for ours, theirs in zip(
        [*loaded.weights, *loaded.biases], [*saved.weights, *saved.biases], strict=True
    ):
        assert ours.tobytes() == theirs.tobytes()
    X = rows(7, 4)
    assert loaded.forward(X).tobytes() == saved.forward(X).tobytes()


def test_round_trip_of_everything_beside_the_weights(net, tmp_path):
    path = tmp_path / "pets.safetensors"
    net.save(str(path))
    loaded = mlp.load(str(path), device=net.device)
    assert loaded.classes == net.classes
    assert loaded.loss == net.loss
    assert loaded.metadata == net.metadata
    assert loaded.preprocessing.mean.tobytes() == net.preprocessing.mean.tobytes()
    assert loaded.preprocessing.scale.tobytes() == net.preprocessing.scale.tobytes()
    assert loaded.predict(rows(5, 4)).tolist() == net.predict(rows(5, 4)).tolist()


def test_the_same_model_gives_the_same_bytes(net, tmp_path):
    for name in ("a", "b"):
        net.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    mlp.load(tmp_path / "a", device=net.device).save(tmp_path / "c")
    assert (tmp_path / "c").read_bytes() == (tmp_path / "a").read_bytes()
    net.metadata = dict(reversed(net.metadata.items()))
    net.save(tmp_path / "d")
    assert (tmp_path / "d").read_bytes() == (tmp_path / "a").read_bytes()


def test_it_opens_with_safetensors_alone(net, tmp_path):
    net.save(tmp_path / "a.safetensors")
    tensors = load_file(tmp_path / "a.safetensors")
    assert set(tensors) == {
        "layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias",
        "preprocessing.mean", "preprocessing.scale",
    }  # fmt: skip
    for i in range(2):
        np.testing.assert_array_equal(tensors[f"layers.{i}.weight"], net.weights[i])
        np.testing.assert_array_equal(tensors[f"layers.{i}.bias"], net.biases[i])
    assert document(tmp_path / "a.safetensors")["network"] == net.spec.to_json()


# --- writing --------------------------------------------------------------------------------------


def test_a_failed_write_leaves_the_old_file_and_nothing_else(net, tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    net.save(path)
    before = path.read_bytes()
    net.classes = None

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ModelFileError, match=r"a.safetensors: cannot be written: No space left"):
        net.save(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.safetensors"]


def test_an_interrupted_write_leaves_the_old_file(net, tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    net.save(path)
    before = path.read_bytes()

    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        net.save(path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_a_missing_folder_is_named(net, tmp_path):
    with pytest.raises(ModelFileError, match="cannot be written: No such file or directory"):
        net.save(tmp_path / "nowhere" / "a.safetensors")


def test_permissions_are_those_of_any_other_file(net, tmp_path):
    net.save(tmp_path / "model")
    (tmp_path / "other").touch()
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("model", "other")]
    assert modes[0] == modes[1]


# --- reading what is not a model ------------------------------------------------------------------


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.9, 0.999])
def test_truncated_files(share, net, tmp_path):
    path = tmp_path / "a.safetensors"
    net.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelFileError, match=r"a\.safetensors: not a readable model file"):
        mlp.load(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x00" * 64, b"\xff" * 64, b"PK\x03\x04" * 9])
def test_other_files(content, tmp_path):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ModelFileError, match="not a readable model file"):
        mlp.load(tmp_path / "a")


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(ModelFileError, match="gone: there is no such file; a model file was"):
        mlp.load(tmp_path / "gone")
    with pytest.raises(ModelFileError, match="is a folder; a model file was expected"):
        mlp.load(tmp_path)


@pytest.mark.parametrize(
    "metadata", [None, {"format": "pt"}, {"fused_mlp": "{"}, {"fused_mlp": "3"}]
)
def test_safetensors_files_of_others(metadata, tmp_path):
    (tmp_path / "a").write_bytes(save({"w": np.zeros(3)}, metadata=metadata))
    with pytest.raises(ModelFileError, match="a safetensors file, but not one that mlp wrote"):
        mlp.load(tmp_path / "a")


def test_a_tensor_type_that_numpy_lacks(tmp_path):
    header = json.dumps({"w": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "a").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(ModelFileError):
        mlp.load(tmp_path / "a")


def test_files_of_a_later_format(net, tmp_path):
    net.save(tmp_path / "a")
    rewrite(tmp_path / "a", lambda text: text.update(format=3))
    with pytest.raises(ModelFileError, match="written in format 3, but this version reads"):
        mlp.load(tmp_path / "a")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.pop("network"),
        lambda text: text.pop("classes"),
        lambda text: text["network"].update(inputs=5),
        lambda text: text["network"].update(inputs=0),
        lambda text: text["network"]["layers"].pop(),
        lambda text: text["network"]["layers"].append({"units": 2}),
        lambda text: text["network"]["layers"][0].update(activation="rleu"),
        lambda text: text["network"]["layers"][0].update(units=10**15),
        lambda text: text["network"].update(layers=3),
        lambda text: text.update(precision="float7"),
        lambda text: text.update(seed=-1),
        lambda text: text.update(metadata=3),
        lambda text: text.update(classes="abc"),
        lambda text: text.update(loss={"name": "hubber"}),
        lambda text: text.update(loss={"name": "huber", "delta": -1}),
        lambda text: text.update(loss="mse"),
        lambda text: text.update(classes=3),
    ],
)
def test_documents_that_do_not_fit(change, net, tmp_path):
    net.save(tmp_path / "a")
    rewrite(tmp_path / "a", change)
    with pytest.raises(ModelFileError, match=r"the model file is (incomplete or )?damaged"):
        mlp.load(tmp_path / "a", device=net.device)


def test_weights_that_are_not_finite(net, tmp_path):
    net.save(tmp_path / "a")
    tensors = load_file(tmp_path / "a")
    tensors["layers.1.bias"][2] = np.nan
    save_file(tensors, tmp_path / "a", metadata={"fused_mlp": json.dumps(document(tmp_path / "a"))})
    with pytest.raises(
        ModelFileError, match=r"damaged: biases\[1\] has numbers that are not finite"
    ):
        mlp.load(tmp_path / "a", device=net.device)


def test_an_unavailable_device_is_not_the_files_fault(net, tmp_path):
    net.save(tmp_path / "a")
    with pytest.raises(mlp.InvalidSetting, match="unknown device"):
        mlp.load(tmp_path / "a", device="tpu")


def test_numpy_labels_are_saved_and_other_objects_refused(tmp_path: Path) -> None:
    network = mlp.Network(2, [mlp.Dense(2, "softmax")], device="numpy")
    network.classes = tuple(np.array([3, 7]))
    network.save(tmp_path / "a.safetensors")
    assert mlp.load(tmp_path / "a.safetensors", device="numpy").classes == (3, 7)
    network.metadata = {"when": object()}
    with pytest.raises(mlp.ModelFileError, match="what JSON holds"):
        network.save(tmp_path / "a.safetensors")
    assert mlp.load(tmp_path / "a.safetensors", device="numpy").metadata == {}


def test_the_settings_of_the_loss_are_kept(tmp_path):
    network = mlp.Network(2, [mlp.Dense(1)], device="numpy")
    network.loss = mlp.Huber(delta=5)
    network.save(tmp_path / "a.safetensors")
    assert mlp.load(tmp_path / "a.safetensors", device="numpy").loss == mlp.Huber(delta=5)


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    network = mlp.Network(2, [mlp.Dense(1)], device="numpy")
    network.parameters.flat.fill(np.nan)
    with pytest.raises(ModelFileError, match="the weights are not finite"):
        network.save(tmp_path / "a.safetensors")
    assert not (tmp_path / "a.safetensors").exists()


def test_a_link_and_the_permissions_of_a_file_outlive_saving(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    mlp.Network(2, [mlp.Dense(1)], device="numpy").save(real)
    real.chmod(0o600)
    link.symlink_to(real)
    mlp.Network(2, [mlp.Dense(1)], device="numpy", seed=1).save(link)
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o600
    assert mlp.load(real).seed == 1


# --- precisions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["tf32", "float16"])
def test_a_precision_that_the_device_lacks_can_be_changed(precision, tmp_path):
    made = mlp.Network(4, [mlp.Dense(3)], device="numpy", precision=precision)
    made.save(tmp_path / "a.safetensors")
    assert mlp.load(tmp_path / "a.safetensors", "numpy").precision == precision
    with pytest.raises(
        mlp.BackendUnavailable,
        match=f"precision '{precision}' is not available on device 'cpu'.*"
        'load it with precision="float32"',
    ):
        mlp.load(tmp_path / "a.safetensors", "cpu")
    loaded = mlp.load(tmp_path / "a.safetensors", "cpu", precision="float32")
    assert (loaded.precision, loaded.dtype) == ("float32", np.float32)
    for ours, theirs in zip(loaded.weights, made.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_another_precision_of_the_file_has_its_dtype(tmp_path):
    made = mlp.Network(4, [mlp.Dense(3)], device="numpy", precision="float64")
    made.save(tmp_path / "a.safetensors")
    loaded = mlp.load(tmp_path / "a.safetensors", "numpy", precision="float32")
    assert {W.dtype for W in loaded.weights} == {np.dtype(np.float32)}
    with pytest.raises(mlp.InvalidSetting, match="unknown precision 'float23'"):
        mlp.load(tmp_path / "a.safetensors", "numpy", precision="float23")
