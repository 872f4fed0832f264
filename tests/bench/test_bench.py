"""Benchmarks end to end on small sizes: real processes, real tapes, both transports; and what is refused."""

import json
import shutil
import subprocess
import sys
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from engine.bench import workloads
from engine.bench.folder import Job, bench_folder, needed_bytes
from engine.bench.gateloads import (
    compare_load,
    gelu_load,
    layer_norm_load,
    matmul_load,
    relu_load,
    softmax_load,
)
from engine.bench.modelloads import bert_load
from engine.bench.planfile import plan_from_text, plan_to_text
from engine.bench.runner import bench
from engine.bench.workload import Workload
from engine.bench.workloads import WORKLOADS, build_workload
from engine.clear import clear
from engine.cli.main import main
from engine.cost import plan_cost
from engine.errors import InputError, LocalError
from engine.kernels import get_kernels
from engine.models.shapes import SHAPES
from engine.scheduler.plan import Plan
from engine.variants import Variants
from simulators.profiles import Network

SMALL = {
    "compare": lambda: compare_load("compare", 200),
    "relu": lambda: relu_load("relu", 300),
    "gelu": lambda: gelu_load("gelu", 300),
    "softmax": lambda: softmax_load("softmax", 3, 20),
    "layernorm": lambda: layer_norm_load("layernorm", 4, 96),
    "matmul": lambda: matmul_load("matmul", 3, 16, 8),
    "block": lambda: bert_load("block", "bert-tiny", 5, layers=1),
    "bands": lambda: bert_load("bands", "bert-tiny", 35, 1, Variants(bands=2, frame=1 << 16)),
    "gelu in bands": lambda: gelu_load("gelu in bands", 300, Variants(bands=3)),
    "product in bands": lambda: matmul_load("product in bands", 3, 16, 8, Variants(bands=2)),
}
TOLERANCE = {"compare": 0, "relu": 0, "gelu": 3e-3, "softmax": 5e-3, "layernorm": 1e-2, "matmul": 0, "block": 5e-2,
             "bands": 5e-2, "gelu in bands": 3e-3, "product in bands": 0}  # fmt: skip
ROUNDS = {"compare": 1, "relu": 2, "gelu": 2, "softmax": 7, "layernorm": 4, "matmul": 1, "block": 20,
          "bands": 20, "gelu in bands": 2, "product in bands": 1}  # fmt: skip


@pytest.mark.parametrize("name", SMALL)
def test_every_bound_holds_and_rounds_are_those_that_are_claimed(name: str) -> None:
    load = SMALL[name]()
    plan = Plan(load.program)
    outputs = clear(plan, get_kernels(), load.inputs, load.weights, check=True)
    assert load.accuracy(outputs).max_error <= TOLERANCE[name]
    assert sum(c.segment.rounds for c in plan.calls if c.call.name in load.counted) == ROUNDS[name]
    assert not any(np.all(x == 0) for x in (*load.inputs.values(), *load.weights.values()))


@pytest.mark.parametrize(
    ("name", "transport"), [("relu", "memory"), ("block", "zeromq"), ("bands", "tcp"), ("gelu in bands", "memory")]
)
def test_a_run_measures_what_the_plan_says(name: str, transport: str, tmp_path: Path) -> None:
    load = SMALL[name]()
    report = bench(load, runs=2, job=Job(transport, deadline=30), folder=tmp_path)
    data, plan, cost = json.loads(json.dumps(report.as_dict())), Plan(load.program), plan_cost(Plan(load.program))
    assert data["bytes_sent"] == list(cost.online) and data["prepare_bytes"] == list(cost.prepare)
    assert data["tape_bytes"] == list(plan.tape_bytes)
    assert data["counted"]["rounds"] == ROUNDS[name]
    assert data["one_process"] == (transport == "memory")
    assert data["error"]["max"] <= TOLERANCE[name]
    sides = 1 if transport == "memory" else 2
    assert [len(side) for side in data["peak_anon_bytes"]] == [sides, sides]
    for phase in ("prepare", "online"):
        assert all(len(run) == sides and min(run) >= 0 for run in data["cpu_seconds"][phase])
    for times in data["seconds"].values():
        assert len(times) == 2 and min(times) > 0
    assert data["kernel_seconds"][0][0]["dpf_eval"] > 0
    assert list(tmp_path.iterdir()) == []  # tapes, weights and keys are gone


@pytest.mark.parametrize("transport", ["memory", "tcp"])
def test_behind_a_network_a_run_sends_the_same_bytes_and_takes_the_delays(transport: str, tmp_path: Path) -> None:
    load, slow = SMALL["softmax"](), Network("slow", 1e9, 0.04)
    report = bench(load, runs=1, job=Job(transport, deadline=30, network=slow), folder=tmp_path)
    data, cost = json.loads(json.dumps(report.as_dict())), plan_cost(Plan(load.program))
    assert data["network"] == {"name": "slow", "rtt": 0.04, "bandwidth": 1e9, "jitter": 0.0}
    assert data["bytes_sent"] == list(cost.online) and data["rounds"] == cost.rounds
    assert data["error"]["max"] <= TOLERANCE["softmax"]
    # A party may begin up to one delay after the other, whose first message is then under way already.
    assert data["seconds"]["online"][0] >= (data["rounds"] - 1) * slow.delay


def test_a_job_survives_its_file() -> None:
    for job in (Job(), Job("tcp", False, 5.0, Network("slow", 1e9, 0.04))):
        assert Job.of(json.loads(json.dumps(job.as_dict()))) == job


def test_a_tape_pair_is_fresh_for_every_run(tmp_path: Path) -> None:
    tapes = [r.dealt["tape"] for r in bench(SMALL["matmul"](), runs=2, job=Job("memory"), folder=tmp_path).runs]
    assert len(set(tapes)) == 2


def test_a_plan_survives_its_file_and_an_altered_one_does_not() -> None:
    for build in SMALL.values():
        plan = Plan(build().program)
        again = plan_from_text(plan_to_text(plan))
        assert again.digest == plan.digest and again.tape_bytes == plan.tape_bytes and again.rounds == plan.rounds
    text = plan_to_text(Plan(SMALL["bands"]().program))
    for broken in (
        text.replace('"layer 0"', '"layer 1"'),
        text.replace("bands=2", "bands=3"),
        text[:-20],
        "[]",
        '{"digest": "", "calls": []}',
    ):
        with pytest.raises(InputError):
            plan_from_text(broken)


def test_a_process_that_fails_is_reported_and_nothing_is_left(tmp_path: Path) -> None:
    load = SMALL["matmul"]()
    lacking = replace(load, inputs={"another": load.inputs["x"]})
    with pytest.raises(LocalError, match="failed"):
        bench(lacking, runs=1, job=Job("memory", deadline=10), folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------- what is refused
def test_unknown_workloads_name_the_nearest() -> None:
    with pytest.raises(InputError, match="bert-base"):
        build_workload("bert-bse")
    with pytest.raises(InputError, match="gelu-1e5"):
        build_workload("gelu")


@pytest.mark.parametrize("name", ["bert-tiny", "gpt2"])
def test_too_many_tokens_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="tokens"):
        build_workload(name, 5000)


def test_a_full_disk_is_found_out_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = SMALL["relu"]()
    plan = Plan(load.program)
    assert needed_bytes(load, plan) > sum(plan.tape_bytes)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 1000))
    with pytest.raises(InputError, match="--folder"), bench_folder(load, plan, Job("memory"), tmp_path):
        raise AssertionError("the disk was full")
    assert list(tmp_path.iterdir()) == []


def test_unknown_transports_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="zeromq"):
        bench(SMALL["matmul"](), 1, Job("zeromk"), tmp_path)


# ---------------------------------------------------------------------- the command
def test_the_command_prints_one_json_object(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from engine.cli.bench import bench as command

    monkeypatch.setitem(workloads.WORKLOADS, "matmul-128x768x3072", lambda name, *_: matmul_load(name, 3, 16, 8))
    args = ["matmul-128x768x3072", "--runs", "1", "--transport", "memory", "--json", "--check", "--folder", tmp_path]
    result = CliRunner().invoke(command, [str(a) for a in args])
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert data["workload"] == "matmul-128x768x3072" and data["runs"] == 1 and data["rounds"] == 3
    table = CliRunner().invoke(command, ["matmul-128x768x3072", "--runs", "1", "--transport", "memory"])
    assert "online, counted" in table.stdout and "both parties in one process" in table.stdout


def test_the_command_refuses_with_one_sentence_and_exit_code_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "engine.cli.main", "bench", "minilmm"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and "minilm" in done.stderr and "Traceback" not in done.stderr
    assert callable(main)


def test_models_are_of_the_shapes_that_they_are_named_after() -> None:
    assert {"bert-tiny", "bert-base", "bert-large"} <= set(SHAPES) & set(WORKLOADS)


def test_workloads_show_no_weights() -> None:
    load: Workload = SMALL["matmul"]()
    assert "array" not in repr(load)
