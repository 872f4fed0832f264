"""What this machine can do at all, measured in the same run, so that a ratio means something on a busy machine too."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from engine.kernels.interface import Kernels

__all__ = ["Limits", "Probe", "measure_limits", "probes", "seconds"]


def seconds(*runs: Callable[[], object], repeats: int = 5, lasting: float = 0.3) -> tuple[float, ...]:
    """Least processor time on this thread of one call of each, in turn, after one warm-up: of `repeats` calls, or of as
    many as last so long. In turn, because a machine that others use too is not as fast in the next second."""
    for run in runs:
        run()
    best, done = [float("inf")] * len(runs), 0
    total = [0.0] * len(runs)
    while done < repeats or min(total) < lasting:
        for i, run in enumerate(runs):
            start = time.thread_time()
            run()
            taken = time.thread_time() - start
            best[i], total[i] = min(best[i], taken), total[i] + taken
        done += 1
    return tuple(best)


@dataclass(frozen=True, slots=True)
class Limits:
    """Rates of one core."""

    memory: float  # bytes/s read plus written by a copy beyond the caches
    aes: float  # blocks/s in cache: the library's ECB or the kernels' own keystream, whichever is faster
    macs: float  # float32 multiply-adds/s of a square product


@dataclass(frozen=True, slots=True)
class Probe:
    """Work of which nothing but one limit decides how long it takes: so many bytes, blocks or multiply-adds a call."""

    run: Callable[[], object]
    units: int


def probes(kernels: Kernels) -> dict[str, Probe]:
    """One for each limit, by the names of `Limits`."""
    source = np.ones(1 << 23, np.uint64)
    target, size = np.zeros_like(source), 768
    matrix = np.ones((size, size), np.float32)
    return {
        "memory": Probe(lambda: np.copyto(target, source), 2 * source.nbytes),
        "aes": _aes(kernels),
        "macs": Probe(lambda: matrix @ matrix, size**3),
    }


def _aes(kernels: Kernels) -> Probe:
    blocks = 1 << 14
    data, out, words = bytes(16 * blocks), bytearray(16 * blocks + 16), np.zeros(2 * blocks, np.uint64)
    encryptor = Cipher(algorithms.AES128(bytes(16)), modes.ECB()).encryptor()

    def ecb() -> None:
        for _ in range(50):
            encryptor.update_into(data, out)

    def keystream() -> None:
        for _ in range(50):
            kernels.ctr(bytes(16), 0, words)

    library, ours = seconds(ecb, keystream)
    return Probe(ecb if library < ours else keystream, 50 * blocks)


def measure_limits(made: dict[str, Probe]) -> Limits:
    rates = {name: probe.units / seconds(probe.run)[0] for name, probe in made.items()}
    return Limits(**rates)
