"""Kernel back ends behind one interface; `get_kernels` chooses one."""

from __future__ import annotations

import os
import warnings
from functools import cache

from engine.errors import InputError
from engine.kernels.interface import Kernels

__all__ = ["get_kernels"]

NO_NATIVE = "the C++ kernels are not built on this machine: the NumPy kernels serve, 10 to 100 times slower"


def get_kernels(name: str | None = None) -> Kernels:
    """The back end called `name` ("native" or "numpy"), else the one in ROUNDELAY_KERNELS, else the fastest built.

    Raises InputError for an unknown name, and for "native" where the extension is not built.
    """
    wanted = name or os.environ.get("ROUNDELAY_KERNELS") or ""
    if wanted not in ("", "native", "numpy"):
        raise InputError(f"there are no kernels called {wanted!r}: choose native or numpy")
    return _load(wanted)


@cache
def _load(wanted: str) -> Kernels:
    if wanted != "numpy":
        try:
            from engine.kernels.native_kernels import NativeKernels

            return NativeKernels()
        except ImportError as error:
            if wanted:
                raise InputError("the native kernels are not built: install again with a C++20 compiler") from error
            warnings.warn(NO_NATIVE, RuntimeWarning, stacklevel=3)
    from engine.kernels.numpy_kernels import NumpyKernels

    return NumpyKernels()
