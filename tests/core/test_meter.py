"""Peak anonymous memory: what arrays take, not what mapped files do."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engine.meter import PeakMemory, anonymous_bytes

SIZE = 64 << 20
SLACK = 16 << 20


def status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def test_it_is_what_the_kernel_calls_anonymous() -> None:
    assert abs(anonymous_bytes() - status("RssAnon:")) < SLACK


def test_an_array_that_lives_at_a_sample_counts_after_it_is_gone() -> None:
    with PeakMemory() as peak:
        start = peak.bytes
        array = np.ones(SIZE, np.uint8)
        peak.sample()
        del array
    assert SIZE - SLACK < peak.bytes - start < SIZE + SLACK


def test_a_mapped_file_does_not_count(tmp_path: Path) -> None:
    np.save(tmp_path / "file.npy", np.ones(SIZE, np.uint8))
    with PeakMemory() as peak:
        start = peak.bytes
        mapped = np.load(tmp_path / "file.npy", "r")
        assert mapped.sum() == SIZE
        peak.sample()
    assert peak.bytes - start < SLACK
