"""Every back end that is built here."""

from __future__ import annotations

import numpy as np
import pytest

from engine.kernels.interface import Kernels
from engine.kernels.numpy_kernels import NumpyKernels
from engine.kernels.threaded import ThreadedKernels


def native_kernels() -> list[Kernels]:
    """One for each instruction set of this machine; none where the extension is not built."""
    try:
        from engine.kernels import _native
        from engine.kernels.native_kernels import NativeKernels
    except ImportError:
        return []
    return [NativeKernels(target) for target in _native.targets()]


def label(kernels: Kernels) -> str:
    return f"native-{target.name}" if (target := getattr(kernels, "target", None)) else kernels.name


BACK_ENDS = [NumpyKernels(), *native_kernels(), ThreadedKernels([NumpyKernels(), *native_kernels()][-1], 3, grain=1)]


@pytest.fixture(params=BACK_ENDS, ids=label)
def kernels(request: pytest.FixtureRequest) -> Kernels:
    """Every back end in turn."""
    chosen: Kernels = request.param
    return chosen


@pytest.fixture(params=BACK_ENDS[1:], ids=label)
def native(request: pytest.FixtureRequest) -> Kernels:
    """Every native target in turn."""
    chosen: Kernels = request.param
    return chosen


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)
