"""Every back end that is built here."""

from __future__ import annotations

import numpy as np
import pytest

from engine.errors import InputError
from engine.kernels import get_kernels
from engine.kernels.interface import Kernels


@pytest.fixture(params=["numpy", "native"])
def kernels(request: pytest.FixtureRequest) -> Kernels:
    try:
        return get_kernels(request.param)
    except InputError as error:
        pytest.skip(str(error))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)
