"""What benchmarks derive from plans and from times: floors, network alone, parts of growth, tables of a page."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.floors import Floor, Rates, floors
from benchmarks.growth import power, split
from benchmarks.kernels.limits import Limits
from benchmarks.markdown import span, written
from benchmarks.overlap import network_alone
from engine.bench.gateloads import compare_load, matmul_load, relu_load
from engine.bench.modelloads import bert_load
from engine.cost import plan_cost
from engine.scheduler.plan import Plan
from engine.variants import Variants
from simulators.profiles import Network

RATES = Rates(Limits(memory=100.0, aes=10.0, macs=1000.0), read=50.0, seal=20.0)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in Linux's /proc")
@pytest.mark.parametrize("module", ["performance", "kernels.limits", "referee"])
def test_a_rate_of_one_core_is_that_of_one_blas_thread(module: str) -> None:
    """Whatever the environment asks for: BLAS starts its threads when it is loaded."""
    code = f"import os, benchmarks.{module}; print(len(os.listdir('/proc/self/task')))"
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "4"}
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["1"], done.stderr


def test_growth_is_split_into_the_parts_that_it_was_made_of() -> None:
    lengths = (64, 128, 256, 512)
    for parts in ((0.02, 3e-4, 2e-6), (0.0, 5e-4, 0.0), (0.1, 0.0, 1e-6)):
        values = [sum(c * n**p for p, c in enumerate(parts)) for n in lengths]
        assert split(lengths, values) == pytest.approx(parts, abs=1e-9)
    assert min(split(lengths, [0.3, 0.29, 0.31, 0.3])) >= 0
    assert power(lengths, [n**2 / 7 for n in lengths]) == pytest.approx(2)


def test_the_network_alone_takes_half_a_round_trip_a_round_and_the_larger_directions_bytes() -> None:
    plan = Plan(relu_load("relu", 1000).program)
    slow, fast = Network("slow", 1e6, 1.0), Network("fast", 1e15, 1.0)
    assert network_alone(plan, fast) == pytest.approx(plan.rounds / 2)
    sent = plan_cost(plan).online
    assert max(sent) * 8e-6 <= network_alone(plan, slow) - plan.rounds / 2 <= sum(sent) * 8e-6


def test_bands_change_neither_rounds_nor_bytes_nor_tape() -> None:
    plans = [Plan(bert_load("block", "bert-tiny", 64, 1, Variants(bands=b)).program) for b in (1, 3)]
    whole, bands = (plan_cost(p) for p in plans)
    assert plans[0].digest != plans[1].digest and whole.rounds == bands.rounds
    for name in ("online", "prepare", "tape"):
        for a, b in zip(getattr(whole, name), getattr(bands, name), strict=True):
            assert a <= b <= 1.002 * a  # a message is whole bytes in each band


def test_floors_are_those_of_the_plan() -> None:
    comparing, product = Plan(compare_load("compare", 100).program), Plan(matmul_load("product", 3, 16, 8).program)
    found = floors(comparing)
    assert found["evaluate"][0].aes == plan_cost(comparing).aes and found["evaluate"][0].macs == 0
    assert found["deal"][0].aes >= 2 * 58 * 100
    of_product = floors(product)
    assert [of_product["prepare"][p].macs for p in (0, 1)] == [3 * 16 * 8, 0]
    assert [of_product["evaluate"][p].macs for p in (0, 1)] == [0, 3 * 16 * 8]


def test_a_floor_adds_what_one_core_does_and_names_what_takes_longest() -> None:
    floor = Floor(aes=20.0, macs=1000.0, moved=100.0)
    assert floor.seconds(RATES) == pytest.approx(3.0) and floor.bound(RATES) == "AES"
    assert Floor(moved=900.0, aes=10.0).seconds(RATES) == pytest.approx(9.0)
    assert Floor(read=100.0).bound(RATES) == "reading"


def test_a_table_replaces_the_one_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n<!-- a -->\nold\n<!-- end -->\nbetween\n<!-- b -->\n<!-- end -->\n")
    for _ in range(2):
        written(page, "a", ("x", "y"), [["1", "2"]], "note")
    text = page.read_text()
    assert text.count("| 1 | 2 |") == 1 and "old" not in text and "between" in text and "note\n\n| x | y |" in text
    with pytest.raises(ValueError, match="0 places"):
        written(page, "c", ("x",), [])


def test_the_page_of_performance_has_a_place_for_every_table() -> None:
    text = (Path(__file__).parents[2] / "docs" / "performance.md").read_text()
    for name in ("times", "floors", "overlap", "growth", "growth by gate"):
        assert text.count(f"<!-- {name} -->") == 1


def test_medians_stand_with_their_extremes() -> None:
    assert span([3.0, 1.0, 2.0]) == "2.000 (1.000 to 3.000)"
    assert span([1.0, 2.0]) == "1.500 (1.000 to 2.000)"
