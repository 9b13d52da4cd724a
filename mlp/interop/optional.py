"""Optional libraries, imported where they are needed, or one sentence that says how to get them."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import Any

from mlp.errors import InvalidSetting

PACKAGE_OF = {
    "onnx": '"fused-mlp[onnx]"',
    "onnxruntime": "onnxruntime",
    "torch": "torch",
}


def is_installed(library: str) -> bool:
    """Whether a library can be found; it is not imported."""
    return find_spec(library) is not None


def require(library: str, purpose: str) -> Any:
    """The imported library.

    Args:
        library: a key of PACKAGE_OF.
        purpose: what needs it, as the beginning of a sentence.

    Raises:
        InvalidSetting: it is not installed.
    """
    try:
        return importlib.import_module(library)
    except ImportError as error:
        what = "is not installed" if error.name == library else f"cannot be imported ({error})"
        raise InvalidSetting(
            f"{purpose} needs {library}, which {what}: pip install {PACKAGE_OF[library]}"
        ) from None
