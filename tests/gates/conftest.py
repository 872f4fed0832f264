import pytest

from engine.kernels import get_kernels
from engine.kernels.interface import Kernels


@pytest.fixture(scope="session")
def kernels() -> Kernels:
    """The definition of every kernel: what is tested here is everything above it."""
    return get_kernels("numpy")
