"""What a plan cannot avoid: AES calls, bytes and multiply-adds of each phase, and the time that they take at the rates
of this machine, which are measured in the same run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from benchmarks.kernels.limits import Limits, measure_limits, probes, seconds
from engine.cost import plan_cost
from engine.graph import Node
from engine.kernels import get_kernels
from engine.kernels.interface import leaf_levels, tree_levels
from engine.scheduler.plan import Plan, Segment

__all__ = ["Floor", "Rates", "floors", "measure_rates"]


@dataclass(frozen=True, slots=True)
class Rates:
    """Of one core: `kernels` are those of benchmarks.kernels; bytes/s of a tape from the page cache, and of sealing."""

    kernels: Limits
    read: float
    seal: float

    def __str__(self) -> str:
        k = self.kernels
        return (
            f"copying {k.memory / 1e9:.1f} GB/s read plus written, AES {k.aes / 1e9:.2f} G blocks/s, float32 products "
            f"{k.macs / 1e9:.1f} G/s, reading a file from memory {self.read / 1e9:.1f} GB/s, AES-GCM "
            f"{self.seal / 1e9:.1f} GB/s"
        )


def measure_rates() -> Rates:
    """Processor time of one thread, best of five."""
    return Rates(measure_limits(probes(get_kernels())), _read_rate(), _seal_rate())


def _read_rate(size: int = 64 << 20) -> float:
    buffer = bytearray(size)
    with tempfile.TemporaryFile() as file:
        file.write(bytes(size))
        return size / seconds(lambda: os.preadv(file.fileno(), [buffer], 0))[0]


def _seal_rate(size: int = 1 << 20) -> float:
    cipher, data, out = AESGCM(bytes(16)), bytes(size), bytearray(size + 16)
    nonces = iter(range(1 << 60))
    return size / seconds(lambda: cipher.encrypt_into(next(nonces).to_bytes(12), data, None, out), repeats=20)[0]


@dataclass(frozen=True, slots=True)
class Floor:
    """Work of a phase or a lane. The processor does its AES calls and products one after the other; its bytes move at
    the same time at best."""

    aes: float = 0.0
    macs: float = 0.0
    moved: float = 0.0
    read: float = 0.0
    sealed: float = 0.0

    def parts(self, rates: Rates) -> dict[str, float]:
        """Seconds by limit."""
        k = rates.kernels
        return {
            "AES": self.aes / k.aes, "products": self.macs / k.macs, "memory": self.moved / k.memory,
            "reading": self.read / rates.read, "sealing": self.sealed / rates.seal,
        }  # fmt: skip

    def seconds(self, rates: Rates) -> float:
        parts = self.parts(rates)
        return max(parts["AES"] + parts["products"] + parts["sealing"], parts["memory"], parts["reading"])

    def bound(self, rates: Rates) -> str:
        """The limit that takes the longest."""
        parts = self.parts(rates)
        return max(parts, key=lambda name: parts[name])


def floors(plan: Plan) -> dict[str, tuple[Floor, Floor]]:
    """By phase or lane, for both parties; of `deal`, the dealer's twice."""
    cost = plan_cost(plan)
    nodes = [(call.segment, node) for call in plan.calls for node in _used(call.segment)]
    dealt = Floor(aes=sum(_gen(s, n) for s, n in nodes) + sum(plan.seed_words) / 2, moved=2.0 * sum(plan.tape_bytes))

    def pair(make: Callable[[int], Floor]) -> tuple[Floor, Floor]:
        return make(0), make(1)

    def macs(p: int, static: bool) -> float:
        return float(sum(_macs(s, n, p, static) for s, n in nodes))

    both = [cost.online[p] + cost.prepare[p] for p in (0, 1)]

    def online(p: int) -> Floor:
        return Floor(cost.aes, macs(p, False), cost.tape[p] + sum(both), cost.tape[p], sum(cost.online))

    return {
        "deal": (dealt, dealt),
        "prepare": pair(lambda p: Floor(macs=macs(p, True), sealed=sum(cost.prepare))),
        "online": pair(online),
        "evaluate": pair(lambda p: Floor(cost.aes, macs(p, False), moved=cost.tape[p] + sum(both))),
        "prefetch": pair(lambda p: Floor(read=cost.tape[p])),
        "send": pair(lambda p: Floor(sealed=cost.online[p])),
        "receive": pair(lambda p: Floor(sealed=cost.online[1 - p])),
    }


def _used(s: Segment) -> list[Node]:
    return [s.graph[i] for i in s.schedule.order]


def _gen(s: Segment, node: Node) -> float:
    """AES calls of both parties' keys: two a level, two a block of 128 bits or two words of a leaf."""
    n, m = node.type.size, node.type.ring
    if node.op == "dpf":
        return 2.0 * n * (tree_levels(m) + 1)
    if node.op == "leaf":
        points = node.integer("points")
        words = (1 << points) * (2 if node.integer("rest") else 1)
        return n * (2.0 * leaf_levels(m, points) + words)
    return 0.0


def _macs(s: Segment, node: Node, party: int, static: bool) -> int:
    """Multiply-adds of a party: a product with its own weights online, with masked ones in the prepare phase."""
    graph = s.graph
    if node.op == "matmul":
        return 0 if static else (1 + party) * node.type.size * graph[node.inputs[0]].type.shape[-1]
    if node.op == "public_matmul":
        return 0 if static else node.type.size * graph[node.inputs[0]].type.shape[-1]
    if node.op == "weight_matmul":
        mine = graph[node.inputs[1]]["owner"] == party
        return node.type.size * graph[node.inputs[0]].type.shape[-1] if mine != static else 0
    return 0
