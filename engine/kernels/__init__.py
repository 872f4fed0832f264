"""Kernel back ends behind one interface; `get_kernels` chooses one."""

from __future__ import annotations

import os
import warnings
from functools import cache

from engine.errors import InputError
from engine.kernels.interface import Kernels
from engine.kernels.threaded import ThreadedKernels

__all__ = ["get_kernels"]

NO_NATIVE = "the C++ kernels are not built on this machine: the NumPy kernels serve, 10 to 100 times slower"


def get_kernels(name: str | None = None, workers: int | None = None) -> Kernels:
    """The back end called `name` ("native" or "numpy"), else the one in ROUNDELAY_KERNELS, else the fastest built, on
    `workers` threads, else ROUNDELAY_WORKERS, else one. The bits are the same for any number of workers.

    Raises InputError for an unknown name or number, and for "native" where the extension is not built.
    """
    wanted = name or os.environ.get("ROUNDELAY_KERNELS") or ""
    if wanted not in ("", "native", "numpy"):
        raise InputError(f"there are no kernels called {wanted!r}: choose native or numpy")
    count = _workers(workers)
    return _load(wanted) if count == 1 else ThreadedKernels(_load(wanted), count)


def _workers(asked: int | None) -> int:
    text = os.environ.get("ROUNDELAY_WORKERS") or "1"
    count = asked if asked is not None else int(text) if text.isdecimal() else 0
    if not 1 <= count <= 1024:
        raise InputError(
            f"kernels run on 1 to 1024 threads: set ROUNDELAY_WORKERS or --workers so, not to {asked or text}"
        )
    return count


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
