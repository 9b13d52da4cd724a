"""How this folder's kernels are compiled and cached, and what arrays they accept."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numba import njit, types
from numba.core.ccallback import CFunc
from numba.extending import overload

F = TypeVar("F", bound=Callable[..., Any])
Floats: TypeAlias = np.ndarray[Any, np.dtype[Any]]  # float32 or float64
Doubles: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Integers: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

FLOATS = (types.float32, types.float64)


def _digest() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


SOURCES = _digest()


def kernel(**options: Any) -> Callable[[F], F]:
    """Compile a module-level function on its first call for a dtype, and keep the result on disk.

    Numba stamps a cached function with the date of its own file alone, so a caller would go on
    using the old text of a row function edited in another file. The stamp here is a digest of the
    whole folder.
    """

    def compiled(function: F) -> F:
        dispatcher: Any = njit(error_model="numpy", **options)(function)
        _keep_on_disk(dispatcher)
        result: F = dispatcher
        return result

    return compiled


def _keep_on_disk(compilable: Any) -> None:
    with contextlib.suppress(RuntimeError):  # no folder can be written: compile every time
        compilable.enable_caching()
    cache_file = getattr(compilable._cache, "_cache_file", None)  # private; a test watches it
    if cache_file is not None:
        cache_file._source_stamp = SOURCES


def address_of(function: Callable[..., None], *arguments: Any) -> int:
    """The address of a module-level function, compiled as C would be for these argument types.

    The result of the compilation is kept on disk, as a kernel's.
    """
    compiled: Any = CFunc(function, (arguments, types.void), {}, {"error_model": "numpy"})
    _keep_on_disk(compiled)
    compiled.compile()
    _LIVING.append(compiled)
    address: int = compiled.address
    return address


# What is called by its address must not be collected.
_LIVING: list[Any] = []


# The four checks below are made on types, while a kernel compiles: a call pays nothing for them.
# Numba would compile a slower kernel for a strided array, and promote where dtypes differ. None is
# let by. A kernel calls them by name, and the compiler takes the `overload` of that name.


def one_dtype(*arrays: Any) -> None:
    """In a kernel: refuse arrays that are not C-contiguous and of one dtype."""


def floats(*arrays: Any) -> None:
    """In a kernel: refuse arrays that are not C-contiguous float32 or float64, all of one dtype."""


def int64s(*arrays: Any) -> None:
    """In a kernel: refuse arrays that are not C-contiguous int64."""


def doubles(*arrays: Any) -> None:
    """In a kernel: refuse arrays that are not C-contiguous float64."""


def _check(arrays: tuple[Any, ...], dtypes: tuple[Any, ...]) -> Callable[..., None]:
    given = [array for array in arrays if not isinstance(array, types.NoneType)]
    names = " or ".join(str(dtype) for dtype in dtypes)
    for array in given:
        if not isinstance(array, types.Array) or array.layout != "C" or array.dtype not in dtypes:
            raise TypeError(f"a C-contiguous {names} array is needed, not {array}")
        if array.dtype != given[0].dtype:
            raise TypeError(f"arrays of one dtype are needed, not {given[0]} and {array}")

    def checked(*arrays: Any) -> None:
        return None

    return checked


@overload(one_dtype)
def _one_dtype(*arrays: Any) -> Callable[..., None]:
    return _check(arrays, (*FLOATS, types.int64))


@overload(floats)
def _floats(*arrays: Any) -> Callable[..., None]:
    return _check(arrays, FLOATS)


@overload(doubles)
def _doubles(*arrays: Any) -> Callable[..., None]:
    return _check(arrays, (types.float64,))


@overload(int64s)
def _int64s(*arrays: Any) -> Callable[..., None]:
    return _check(arrays, (types.int64,))
