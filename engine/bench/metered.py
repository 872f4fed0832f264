"""Kernels that count what they cost: processor seconds by function, whoever calls them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, cast

from engine.kernels.interface import Kernels

__all__ = ["KernelMeter", "metered"]


class KernelMeter:
    """Another back end, with the processor time of each of its functions in `seconds`."""

    def __init__(self, inner: Kernels) -> None:
        self._inner = inner
        self._lock = threading.Lock()
        self.seconds: dict[str, float] = {}

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        return self._timed(name, value) if callable(value) else value

    def _timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                spent = time.thread_time() - start
                with self._lock:
                    self.seconds[name] = self.seconds.get(name, 0.0) + spent

        return timed

    def reset(self) -> None:
        """Count from here on."""
        with self._lock:
            self.seconds = {}


def metered(inner: Kernels) -> tuple[Kernels, KernelMeter]:
    """The same object twice: as the back end that it is, and as the meter."""
    meter = KernelMeter(inner)
    return cast(Kernels, meter), meter
