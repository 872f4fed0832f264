"""Peak anonymous memory of this process: what its own arrays take, not the files that it maps or the page cache."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

__all__ = ["PeakMemory", "anonymous_bytes"]


def anonymous_bytes() -> int:
    """RssAnon of this process, 0 where the system does not tell."""
    try:
        with open("/proc/self/status") as f:
            for line in f:
                if line.startswith("RssAnon:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


class PeakMemory:
    """A context that samples anonymous memory every few milliseconds; `bytes` is the largest sample."""

    def __init__(self, interval: float = 0.005) -> None:
        self.bytes, self._interval = 0, interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True, name="peak memory")

    def _sample(self) -> None:
        while not self._stop.wait(self._interval):
            self.bytes = max(self.bytes, anonymous_bytes())

    def __enter__(self) -> Self:
        self.bytes = anonymous_bytes()
        self._thread.start()
        return self

    def __exit__(self, k: type[BaseException] | None, e: BaseException | None, t: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        self.bytes = max(self.bytes, anonymous_bytes())
