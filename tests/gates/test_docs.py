"""What docs/writing-a-gate.md shows works."""

import re
from pathlib import Path
from typing import Any

import pytest

from engine.kernels.interface import Kernels
from engine.testing.fuzz import fuzz

PAGE = (Path(__file__).parents[2] / "docs" / "writing-a-gate.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("docs") / "leaky.py"
    path.write_text("\n".join(BLOCKS))
    return path


def test_the_gate_passes_as_the_page_runs_it(page: Path, kernels: Kernels) -> None:
    assert "roundelay fuzz leaky.py:leaky_relu" in PAGE
    report = fuzz(f"{page}:leaky_relu", examples=400, kernels=kernels)
    assert report.ok and report.rounds == 2 and report.max_error == 0.0


def test_the_interpolated_gate_passes(page: Path, kernels: Kernels) -> None:
    report = fuzz(f"{page}:softplus", examples=400, kernels=kernels)
    assert report.ok and report.rounds == 2 and report.tape_bytes[0] == 16 * 3


def test_the_test_of_the_page_passes(page: Path) -> None:
    names: dict[str, Any] = {"__name__": "leaky"}
    exec(compile(page.read_text(), str(page), "exec"), names)
    names["test_leaky_relu"]()
