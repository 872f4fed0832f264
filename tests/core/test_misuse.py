"""Whatever is wrong with a gate is said when it is traced, with the author's file and line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import TraceError
from engine.gates.fss import Table, at_least, counts, equal, interval, lookup, piece
from engine.gates.gelu import gelu
from engine.gates.matmul import bias, gain, matmul, weight
from engine.gates.maximum import stabiliser
from engine.gates.polynomial import polynomial
from engine.gates.reciprocal import reciprocal
from engine.graph import Graph, WireType
from engine.wires import Masked, Weight, concat

PAIR = Table("pair", 0, 3, (1, 2))


def wire(
    shape: tuple[int, ...] = (4,), ring: int = 20, bound: int = 1000, scale: int = 4, g: Graph | None = None
) -> Masked:
    g = g or Graph("misuse")
    kind = WireType("masked", shape, ring, scale, bound)
    return Masked(g, g.add("input", (), kind, owner=0, name=f"x{len(g)}"))


def param(
    x: Masked, shape: tuple[int, ...], owner: int | str = 1, bound: int = 7, ring: int = 52, scale: int = 4
) -> Weight:
    return weight(x.graph, f"w{len(x.graph)}", shape, owner=owner, scale=scale, bound=bound, ring=ring)


def twice(x: Masked) -> None:
    x.as_share().reveal(0, "y")
    x.as_share().reveal(0, "y")


MISUSES: list[tuple[Callable[[Masked], Any], str]] = [
    # unopened values
    (lambda x: x.as_share() * x.as_share(), "open it first"),
    (lambda x: x.as_share() * x, "open it first"),
    (lambda x: 2 * x.as_share(), "open it first"),
    (lambda x: 1 - x.as_share(), "open it first"),
    (lambda x: at_least(x, 0) * x, "open it first"),
    (lambda x: at_least(x, 0) + 1, "open it first"),
    (lambda x: 1 - lookup(x, PAIR), "open it first"),
    (lambda x: polynomial(x.as_share(), 20), "open it first"),
    (lambda x: polynomial(at_least(x, 0), 20), "open it first"),
    (lambda x: matmul(wire((4, 4)).as_share(), wire((4, 4))), "different segments"),
    (lambda x: matmul(x.reshape(2, 2).as_share(), x.reshape(2, 2)), "open it first"),
    (lambda x: lookup(x.as_share(), PAIR), "open it first"),
    (lambda x: interval(x.as_share(), 0, 2), "open it first"),
    (lambda x: x.as_share() + at_least(x, 0), "BitShare cannot be added to a Share"),
    (lambda x: x.as_share() + 2, "int cannot be added to a Share"),
    # shapes
    (lambda x: x.reshape(5), "cannot reshape"),
    (lambda x: x.slice(0, 2, 9), "leaves axis 0"),
    (lambda x: x.slice(1, 0, 1), "no axis 1"),
    (lambda x: x.sum(3), "no axis 3"),
    (lambda x: x.transpose(0, 0), "do not permute"),
    (lambda x: x.broadcast_to(5), "do not broadcast"),
    (lambda x: x + wire((3,), g=x.graph), "do not broadcast"),
    (lambda x: x * wire((3,), g=x.graph), "do not broadcast"),
    (lambda x: concat([x.reshape(2, 2), x.reshape(1, 4)]), "cannot be joined"),
    (lambda x: concat([]), "nothing to join"),
    (lambda x: concat([x, x.as_share()]), "one kind"),
    (lambda x: at_least(x, 0).open().reshape(3), "cannot reshape"),
    (lambda x: at_least(x, 0).open().slice(0, 3, 5), "leaves axis 0"),
    (lambda x: matmul(x, x), "cannot multiply matrices"),
    (lambda x: matmul(x.reshape(2, 2), param(x, (3, 2))), "cannot multiply matrices"),
    (lambda x: matmul(x.reshape(2, 2), param(x, (1, 2, 2))), "two dimensions"),
    (lambda x: gain(x, param(x, (3,))), "does not match the last axis"),
    (lambda x: bias(x, param(x, (3,))), "do not broadcast"),
    (lambda x: bias(x.slice(0, 0, 1), param(x, (4,))), "does not broadcast to"),
    (lambda x: x.plus((1, 2)), "do not match the last axis"),
    (lambda x: counts(wire((), 4, 7), 8), "last axis"),
    (lambda x: wire((0, 3)), "empty dimension"),
    # rings, scales, bounds
    (lambda x: x.reduce(21), "lift it in a polynomial"),
    (lambda x: x.reduce(9), "does not fit 9 bits"),
    (lambda x: x.truncate(5), "cannot truncate"),
    (lambda x: wire(ring=8, scale=9, bound=3).truncate(0), "cannot truncate"),
    (lambda x: wire(ring=8, bound=127).truncate(3), "does not fit a ring of 7 bits"),
    (lambda x: wire(ring=65), "1 to 64 bits, not 65"),
    (lambda x: wire(ring=8, bound=128), "does not fit a ring of 8 bits"),
    (lambda x: x.bounded(-1), "a bound is not negative"),
    (lambda x: x.times(1 << 12), "does not fit a ring of 20 bits"),
    (lambda x: x.sum().times(200), "does not fit a ring of 20 bits"),
    (lambda x: x.times(1.5), "by an integer"),  # type: ignore[arg-type]
    (lambda x: x.plus(0.5), "integers are added"),  # type: ignore[arg-type]
    (lambda x: x + 0.5, "float cannot enter a polynomial"),
    (lambda x: x + x.truncate(2), "scales 4 and 2"),
    (lambda x: x.as_share().open(21), "known mod 2\\^20 only"),
    (lambda x: x.as_share().open(0), "1 to 64 bits, not 0"),
    (lambda x: x.as_share().open(9), "does not fit a ring of 9 bits"),
    (lambda x: x.as_share().reveal(0, "y", 9), "does not fit a ring of 9 bits"),
    (lambda x: x.as_share().reveal(2), "party 0 or 1, not 2"),
    (lambda x: polynomial(x * x, 20), "does not fit the output ring"),
    (lambda x: polynomial(x, 70), "1 to 64 bits"),
    (lambda x: polynomial(wire(ring=11), 30), "two bits of head-room"),
    (lambda x: polynomial(wire(ring=1, bound=0), 30), "two bits of head-room"),
    (lambda x: polynomial((x * x).shifted(4), 60), "truncate a wire"),
    (lambda x: matmul(x.reshape(2, 2), param(x, (2, 2), "public", 1 << 20)), "does not fit a ring of 20 bits"),
    (lambda x: gain(x, param(x, (4,), "public", 1 << 20)), "does not fit a ring of 20 bits"),
    (lambda x: bias(x, param(x, (4,), "public", 1 << 20)), "does not fit a ring of 20 bits"),
    (lambda x: bias(x, param(x, (4,), scale=5)), "scale 5 added to a value at scale 4"),
    (lambda x: matmul(x.reshape(2, 2), param(x, (2, 2), ring=19)), "it would leak W"),
    (lambda x: param(x, (2, 2), 2), "owned by 0, 1, 'public' or 'shared'"),
    (lambda x: wire(bound=np.int64(3)), "are integers"),  # type: ignore[arg-type]
    # questions
    (lambda x: interval(x, 3, 3), "not inside the 20-bit domain"),
    (lambda x: interval(x, 0, (1 << 19) + 1), "not inside the 20-bit domain"),
    (lambda x: at_least(x, 1 << 19), "not inside the 20-bit domain"),
    (lambda x: interval(x, 0.5, 2), "no integer"),  # type: ignore[arg-type]
    (lambda x: equal(x, np.int64(3)), "no integer"),  # type: ignore[arg-type]
    (lambda x: lookup(wire(ring=3, bound=3), Table("t", 0, 0, (1,) * 9)), "9 entries"),
    (lambda x: lookup(x, Table("t", 0, 0, ())), "0 entries"),
    (lambda x: lookup(wire(ring=7, bound=24), Table("t", 64, 0, (1,) * 65)), "would alias"),
    (lambda x: lookup(wire(ring=7, bound=24), Table("t", -104, 0, (1,) * 65)), "would alias"),
    (lambda x: lookup(x, Table("t", 0, 0, (1 << 62,))), "beyond 62 bits"),
    (lambda x: piece(x, None, Table("t", 0, 0, (1,), (1,))), "go together"),
    (lambda x: piece(*x.split(2), Table("t", 0, 0, (1, 2), (1,))), "2 values and 1 slopes"),
    (lambda x: counts(wire((3, 300), 4, 7), 8), "overflows counters"),
    (lambda x: counts(wire((3, 30), 11, 7), 8), "too large"),
    (lambda x: counts(wire((3, 30), 4, 7), 12), "8 or 16 bits"),
    # names and segments
    (twice, "the name 'y' is taken"),
    (lambda x: [weight(x.graph, "w", (2, k), owner=1, scale=0, bound=3) for k in (1, 2)], "the name 'w' is taken"),
    (lambda x: x + wire(), "different segments"),
    (lambda x: polynomial(x * wire(bound=7), 20), "different segments"),
    (lambda x: concat([x, wire()]), "different segments"),
    (lambda x: matmul(x.reshape(2, 2), wire((2, 2))), "different segments"),
    (lambda x: x.graph.add("relu", (0,), x.type), "no operation is called 'relu'"),
]  # fmt: skip


@pytest.mark.parametrize(("gate", "sentence"), MISUSES, ids=[f"{i}-{s}" for i, (_, s) in enumerate(MISUSES)])
def test_misuse_names_the_line(gate: Callable[[Masked], Any], sentence: str) -> None:
    with pytest.raises(TraceError, match=sentence) as caught:
        gate(wire())
    file, line, *_ = str(caught.value).split(":")
    assert file == Path(__file__).name
    assert "\n" not in str(caught.value)
    first = gate.__code__.co_firstlineno
    inner = {wire.__code__.co_firstlineno + 5, param.__code__.co_firstlineno + 3}
    assert int(line) in {first, first + 2} | inner


@pytest.mark.parametrize(
    ("gate", "sentence", "origin"),
    [
        (lambda: stabiliser(wire(ring=34, bound=60 << 4), 1, 4), "leaves the range of 16 buckets", "maximum.py"),
        (lambda: reciprocal(wire(), -3, 10), "at scale 8 or finer, not 4", "reciprocal.py"),
        (lambda: gelu(wire(ring=20, bound=1000, scale=4)), "cannot truncate scale 4", "activation.py"),
    ],
)
def test_composites_name_their_own_line(gate: Callable[[], Any], sentence: str, origin: str) -> None:
    with pytest.raises(TraceError, match=sentence) as caught:
        gate()
    assert str(caught.value).startswith(f"engine/gates/{origin}:")


def test_an_authors_file_may_be_called_like_one_of_the_engine(tmp_path: Path) -> None:
    path = tmp_path / "my_graph.py"
    path.write_text("def gate(x):\n    y = x.reduce(10)\n    return y.reduce(3)\n")
    space: dict[str, Any] = {}
    exec(compile(path.read_text(), str(path), "exec"), space)
    with pytest.raises(TraceError, match=r"^my_graph.py:3: "):
        space["gate"](wire(bound=100))
