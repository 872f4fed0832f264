"""Activation functions in float64, elementwise on arrays of any shape."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

__all__ = ["activation", "erf"]

Array = NDArray[np.float64]

_STEP = 1 / 32  # between the points around which erf is expanded
_END = 6.0  # erf(6) is 1 in float64
_ORDER = 8  # |x - point| <= 1/64: the first term left out is below 2^-54


@cache
def _taylor() -> Array:
    """Taylor coefficients of erf, (order, points), around 0, _STEP, ... _END."""
    x = np.arange(round(_END / _STEP) + 1) * _STEP
    derivative = [np.zeros_like(x), 2 / math.sqrt(math.pi) * np.exp(-x * x)]
    # f' = c exp(-x^2) gives f'' = -2x f'; Leibniz' rule on that product gives every higher one.
    for k in range(1, _ORDER - 1):
        derivative.append(-2 * x * derivative[k] - 2 * (k - 1) * derivative[k - 1])
    derivative[0] = np.array([math.erf(point) for point in x])
    return np.stack([d / math.factorial(k) for k, d in enumerate(derivative)])


def erf(x: Array) -> Array:
    """The error function to 1e-15: Taylor series around the nearest of a grid of points whose erf is exact."""
    size = np.fmin(np.abs(x), _END)  # fmin, so that NaN indexes the grid too
    point = np.rint(size / _STEP).astype(np.intp)
    rest = size - point * _STEP
    y = np.zeros_like(size)
    for row in _taylor()[::-1]:
        y = y * rest + row[point]
    return np.where(np.isnan(x), x, np.copysign(y, x))


def _gelu(x: Array) -> Array:
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def _gelu_new(x: Array) -> Array:
    y: Array = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return y


def _relu(x: Array) -> Array:
    return np.maximum(x, 0)


def _silu(x: Array) -> Array:
    # The sigmoid as a tanh: exp(-x) would overflow for large negative x.
    y: Array = 0.5 * x * (1 + np.tanh(0.5 * x))
    return y


_FUNCTIONS: Mapping[str, Callable[[Array], Array]] = MappingProxyType(
    {"gelu": _gelu, "gelu_new": _gelu_new, "relu": _relu, "silu": _silu, "tanh": np.tanh}
)


def activation(name: str) -> Callable[[Array], Array]:
    """The function of that name in `shapes.ACTIVATIONS`."""
    return _FUNCTIONS[name]
