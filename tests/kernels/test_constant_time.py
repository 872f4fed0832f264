"""Gen and one-hot shares of the dealer, evaluation, openings and polynomials of the parties: neither instructions nor
addresses depend on a secret. What is public, the points where keys are evaluated, is always the same.

The kernels are compiled once more, as they are for the extension, into a program that runs them on drawn secrets.
Single-stepped on this machine it shows every branch; under valgrind (which has no AVX-512) every address of memory as
well.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLAGS = {
    "portable": [],
    "aesni": ["-maes", "-mavx2", "-mbmi2", "-mpopcnt"],
    "avx512": ["-maes", "-mavx2", "-mbmi2", "-mpopcnt", "-mvaes", "-mprefer-vector-width=512"]
    + [f"-mavx512{part}" for part in ("f", "bw", "dq", "vl", "ifma", "vnni", "vbmi", "vbmi2", "vpopcntdq")],
}


def usable() -> list[str]:
    try:
        from engine.kernels import _native
    except ImportError:
        return []
    return list(_native.targets())


pytestmark = [
    pytest.mark.skipif(platform.system() != "Linux" or platform.machine() != "x86_64", reason="needs Linux on x86-64"),
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++"),
    pytest.mark.timeout(300),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("constant-time")


def program(target: str, folder: Path) -> Path:
    """The driver for one instruction set, compiled as the extension is."""
    if target not in usable():
        pytest.skip(f"this machine has no {target} kernels")
    out = folder / target
    if out.exists():
        return out
    source = Path(__file__).with_name("constant_time.cpp")
    define, include = f'-DTARGET="isa_{target}.hpp"', f"-I{ROOT / 'native'}"
    command = ["g++", "-std=c++20", "-O3", "-w", *FLAGS[target], define, include, str(source), "-o", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    return out


@pytest.mark.parametrize("target", ["aesni", "avx512"])
def test_the_instructions_do_not_depend_on_secrets(target: str, folder: Path) -> None:
    done = subprocess.run([program(target, folder), "steps"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip("no process may be traced here")
    traces = [line.split() for line in done.stdout.splitlines()]
    for part, secrets in (("gen", 4), ("eval", 2)):
        found = [(int(count), digest) for name, count, digest in traces if name == part]
        assert len(found) == secrets and found[0][0] > 1000
        assert len(set(found)) == 1


@pytest.mark.parametrize("target", ["portable", "aesni"])
def test_the_addresses_do_not_depend_on_secrets(target: str, folder: Path, tmp_path: Path) -> None:
    if shutil.which("valgrind") is None:
        pytest.skip("needs valgrind")
    digests = set()
    for secret in ("1", "2"):
        log = tmp_path / secret
        tool = ["valgrind", "--tool=lackey", "--trace-mem=yes", f"--log-file={log}"]
        done = subprocess.run(
            [*tool, program(target, folder), "run", secret], check=True, capture_output=True, text=True
        )
        accesses = log.read_text().splitlines()
        marks = [i for i, line in enumerate(accesses) if line.startswith(f" S {int(done.stdout, 16):08x},")]
        assert len(marks) == 2 and marks[1] - marks[0] > 10_000
        digests.add(hashlib.sha256("\n".join(accesses[slice(*marks)]).encode()).hexdigest())
    assert len(digests) == 1
