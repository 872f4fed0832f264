"""Runs of sessions as recordings, for their page and their trace. Lengths are public; texts and outputs stay out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from engine.cost import plan_cost
from engine.report.recording import Rates, RecordedRun, Recording, Side, aligned, gate_costs
from engine.result import RunResult
from engine.run import Finished
from engine.scheduler.plan import Plan

__all__ = ["PRIVATE", "judged", "recorded", "served", "served_run", "with_result"]

PRIVATE = frozenset({"text", "outputs", "labels"})
"""Fields of a command's JSON that no page and no trace has."""


def recorded(
    title: str, results: Sequence[RunResult], result: Mapping[str, Any], facts: Mapping[str, str],
    rates: Rates | None = None,
) -> Recording:  # fmt: skip
    """A client's runs. result: what the command prints as JSON; rates: of the network, where they are known."""
    runs = tuple(replace(_client_run(i, len(results), r), rates=rates) for i, r in enumerate(results))
    what = f"{_plural(len(runs), 'run')} over {_plural(sum(len(r.tokens) for r in results), 'text')}"
    more = {"tokens": ", ".join(_tokens(r.tokens) for r in results), "plan": results[0].plan.digest.hex()[:16]}
    return Recording(title, what, {**facts, **more}, _public(result), runs)


def _client_run(number: int, of: int, r: RunResult) -> RecordedRun:
    totals = {k: v for k, v in r.as_dict().items() if k != "layers"}
    return RecordedRun(
        _name(number, of, r.tokens), gate_costs(r.plan), (Side.of(r.timeline), None), totals, tape=r.tape
    )


def served_run(
    number: int, plan: Plan, lengths: Sequence[int], done: Finished, rates: Rates | None = None
) -> RecordedRun:
    """A run as its owner saw it. What the client sent is the plan's, which every frame was compared with."""
    cost, mine = plan_cost(plan), done.report
    totals = {
        "rounds": mine["rounds"],
        "rounds_per_layer": [c.segment.rounds for c in plan.calls if c.call.name.startswith("layer")],
        "bytes_sent": [cost.online[0], mine["bytes_sent"]], "prepare_bytes": [cost.prepare[0], mine["prepare_bytes"]],
        "tape_bytes": [cost.tape[0], mine["tape_bytes"]], "peak_anon_bytes": [0, mine["peak"]],
        "seconds": {"prepare": mine["prepare"], "online": mine["online"]},
    }  # fmt: skip
    sides = (None, Side.of(done.timeline))
    return RecordedRun(f"{number}: {_tokens(lengths)}", gate_costs(plan), sides, totals, tape=done.tape, rates=rates)


def served(title: str, runs: Sequence[RecordedRun], facts: Mapping[str, str]) -> Recording:
    """An owner's latest runs."""
    result = {"runs": [dict(r.totals) for r in runs]}
    return Recording(title, f"the latest {_plural(len(runs), 'run')} served", facts, result, tuple(runs))


def with_result(recording: Recording, result: Mapping[str, Any], title: str, facts: Mapping[str, str]) -> Recording:
    """The same runs as part of another command, whose JSON takes the place of theirs."""
    entries = result.get("runs", [result])
    runs = tuple(
        replace(run, sides=aligned(run.sides), totals={k: entry.get(k, v) for k, v in run.totals.items()})
        for run, entry in zip(recording.runs, entries, strict=True)
    )
    return replace(recording, title=title, facts={**recording.facts, **facts}, result=_public(result), runs=runs)


def judged(recording: Recording, accuracy: Mapping[str, Any]) -> Recording:
    """With an accuracy over all runs: fields `error` and `cosine`."""
    runs = tuple(replace(run, totals={**run.totals, **accuracy}) for run in recording.runs)
    return replace(recording, runs=runs)


def _public(result: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name not in PRIVATE}


def _name(number: int, of: int, tokens: Sequence[int]) -> str:
    return f"{number + 1} of {of}, {_tokens(tokens)}" if of > 1 else _tokens(tokens)


def _tokens(lengths: Sequence[int]) -> str:
    shown = [str(n) for n in lengths[:8]] + (["..."] if len(lengths) > 8 else [])
    return " + ".join(shown) + (" token" if list(lengths) == [1] else " tokens")


def _plural(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")
