"""What `keep_memory` changes is seen in a process of its own: page faults of arrays that come and go."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import numpy as np
from engine.memory import keep_memory, reserve, touch

if sys.argv[1] == "kept":
    keep_memory()
if sys.argv[2:]:
    memory = reserve(int(sys.argv[2]))
    touch(memory)
    between = [np.ones(3 << 18, np.uint8) for _ in range(32)]  # what is taken meanwhile takes none of it
    memory.clear()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def used():
    arrays = [np.empty(3 << 18, np.uint8) for _ in range(64)]
    before = faults()
    for array in arrays:
        array[::4096] = 1
    return faults() - before

print(used(), used())
"""


def faults(*how: str) -> tuple[int, int]:
    """Of 48 MiB in arrays of 768 KiB: written for the first time, and again in arrays made anew."""
    said = subprocess.run([sys.executable, "-c", FAULTS, *how], capture_output=True, text=True, check=True).stdout
    first, again = map(int, said.split())
    return first, again


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of the GNU C library")
def test_kept_memory_is_taken_once() -> None:
    first, again = faults("kept")
    assert again <= 16 < first <= faults("plain")[0]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of the GNU C library")
def test_reserved_memory_is_taken_before_its_first_use() -> None:
    assert faults("kept", str(64 << 20))[0] <= 16 < faults("plain", str(64 << 20))[0]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of Linux")
def test_a_fault_serves_a_huge_page_where_the_system_has_them() -> None:
    try:
        with open("/sys/kernel/mm/transparent_hugepage/enabled") as setting:
            allowed = "[never]" not in setting.read()
    except OSError:
        allowed = False
    if not allowed:
        pytest.skip("no transparent huge pages here")
    assert faults("kept")[0] < 1000
