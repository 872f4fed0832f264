"""What this machine can do at all, measured in the same run, so that a ratio means something on a busy machine too."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from engine.kernels.interface import Kernels

__all__ = ["Limits", "measure_limits", "seconds"]


def seconds(run: Callable[[], object], repeats: int = 5, lasting: float = 0.3) -> float:
    """Least processor time of one call on this thread, after one warm-up: of `repeats` calls, or of as many as last so
    long."""
    run()
    best, total, done = float("inf"), 0.0, 0
    while done < repeats or total < lasting:
        start = time.thread_time()
        run()
        taken = time.thread_time() - start
        best, total, done = min(best, taken), total + taken, done + 1
    return best


@dataclass(frozen=True, slots=True)
class Limits:
    """Rates of one core."""

    memory: float  # bytes/s read plus written by a copy beyond the caches
    aes: float  # blocks/s in cache: the library's ECB or the kernels' own keystream, whichever is faster
    macs: float  # float32 multiply-adds/s of a square product


def measure_limits(kernels: Kernels) -> Limits:
    source = np.ones(1 << 23, np.uint64)
    target = np.zeros_like(source)
    memory = 2 * source.nbytes / seconds(lambda: np.copyto(target, source))
    blocks = 1 << 14
    data, out = bytes(16 * blocks), bytearray(16 * blocks + 16)
    encryptor = Cipher(algorithms.AES128(bytes(16)), modes.ECB()).encryptor()
    ecb = 50 * blocks / seconds(lambda: [encryptor.update_into(data, out) for _ in range(50)])
    words = np.zeros(2 * blocks, np.uint64)
    keystream = 50 * blocks / seconds(lambda: [kernels.ctr(bytes(16), 0, words) for _ in range(50)])
    size = 768
    matrix = np.ones((size, size), np.float32)
    macs = size**3 / seconds(lambda: matrix @ matrix)
    return Limits(memory, max(ecb, keystream), macs)
