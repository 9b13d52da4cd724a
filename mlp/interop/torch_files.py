"""Files with a PyTorch state_dict, read into NumPy arrays; nothing in them is ever executed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mlp.backends.protocol import HostArray
from mlp.errors import InvalidInput, ModelFileError
from mlp.interop.optional import require

KEY = "fused_mlp_torch"  # of the description that `to_torch` adds to a file
OWN_KEY = "fused_mlp"  # of our model files, which are something else

StateDict = tuple[dict[str, HostArray], dict[str, Any] | None]


def read_state_dict(source: str | Path | Mapping[str, Any]) -> StateDict:
    """The arrays of a file or mapping by name, and what `to_torch` says of them (or None).

    Raises:
        ModelFileError: a file that is missing, damaged, or of another kind.
        InvalidInput: an entry that is no array of numbers.
        InvalidSetting: a .pt or .pth file, and PyTorch is not installed.
    """
    if isinstance(source, Mapping):
        return _arrays(source, "the state_dict"), None
    path = Path(source)
    if path.suffix not in (".safetensors", ".pt", ".pth"):
        raise ModelFileError(f"{path}: a .safetensors, .pt or .pth file was expected")
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "there is no such file"
        raise ModelFileError(f"{path}: {what}; a state_dict was expected")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return _arrays(_read_pickle(path), str(path)), None


def _read_safetensors(path: Path) -> StateDict:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except TypeError as error:  # a dtype that NumPy lacks
        raise ModelFileError(
            f"{path}: its tensors cannot be read ({error}); save them in float32"
        ) from None
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelFileError(f"{path}: not a readable safetensors file ({error})") from None
    if OWN_KEY in metadata:
        raise ModelFileError(f"{path}: a model file of mlp, not a state_dict: read it by mlp.load")
    about = None
    if KEY in metadata:
        try:
            about = json.loads(metadata[KEY])
            about["standardized"] = bool(about["standardized"])
        except (KeyError, TypeError, ValueError):
            raise ModelFileError(f"{path}: the description in the file is damaged") from None
    return _arrays(tensors, str(path)), about


def _read_pickle(path: Path) -> Mapping[str, Any]:
    torch = require("torch", f"{path}: reading a {path.suffix} file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    # It raises whatever the bytes bring about; its words advise to run the file's code, so no.
    except Exception:
        raise ModelFileError(
            f"{path}: PyTorch's weights-only loader refuses it: it is damaged, or holds more than "
            "tensors; save a state_dict: torch.save(model.state_dict(), path)"
        ) from None
    if not isinstance(content, Mapping):
        raise ModelFileError(f"{path}: holds a {type(content).__name__}, not a state_dict")
    return content


def _arrays(entries: Mapping[str, Any], name: str) -> dict[str, HostArray]:
    return {str(key): _array(value, f"{name}: {str(key)!r}") for key, value in entries.items()}


def _array(value: Any, name: str) -> HostArray:
    if hasattr(value, "detach"):  # a torch.Tensor; NumPy lacks some of its dtypes
        value = value.detach().cpu()
        value = (value if str(value.dtype) == "torch.float64" else value.float()).numpy()
    if isinstance(value, Mapping):
        raise InvalidInput(f"{name} is a mapping itself: pass that, if it is the state_dict")
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.empty((), object)
    if array.dtype.name == "bfloat16":  # which NumPy knows once ml_dtypes was imported
        array = array.astype(np.float32)
    if array.dtype.kind not in "iuf":
        raise InvalidInput(f"{name} is no array of numbers")
    return array
