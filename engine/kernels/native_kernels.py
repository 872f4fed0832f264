"""The C++ kernels: single-threaded over what they get, without the GIL, for the best instructions of this machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.kernels import _native, checks
from engine.kernels.interface import Bits, Equal, HalfLine, Interval, Keystream, Lookup, Operand, Question, Table, Tweak
from engine.ring import Words, byte_width

__all__ = ["NativeKernels"]


Asked = tuple[str, int, Table | tuple[int, int, bool] | int, NDArray[Any]]


def encode(question: Question, m: int, out: NDArray[Any]) -> Asked:
    """A question as offsets modulo 2^m; a half-line also with the ends of what wraps and whether it is turned round."""
    top = (1 << m) - 1
    match question:
        case Interval(lo, hi):
            return "interval", (lo - 1) & top, (hi - 1) & top, out
        case HalfLine(lo, bound, above):
            return "half_line", (lo - 1) & top, (bound - lo, min(top, top + 1 - bound - lo), not above), out
        case Equal(value):
            return "equal", value & top, 0, out
        case Lookup(first, table):
            return "lookup", first & top, table, out


Encoded = tuple[Words | Bits | bytes, int, int, int, int, int, int, int, int]


def encode_operand(o: Words | Operand) -> Encoded:
    """Source, keystream offset, elements, and the numbers of the formula."""
    if not isinstance(o, Operand):
        return o, 0, o.size, 64, 1, 0, 0, 0, 0
    numbers = (o.bits, o.repeat, o.add, o.drop, o.flip, o.shift)
    if isinstance(o.source, Keystream):
        return o.source.seed, o.source.offset, o.source.size, *numbers
    return o.source, 0, o.source.size // (byte_width(o.bits) if o.source.dtype == np.uint8 else 1), *numbers


class NativeKernels:
    """See `engine.kernels.interface.Kernels`. `target` is one of `_native.targets()`, by default the first."""

    name = "native"

    def __init__(self, target: str = "") -> None:
        self.target = _native.Target(target)

    def ctr(self, seed: bytes, offset: int, out: Words) -> None:
        checks.check_ctr(seed, offset, out)
        self.target.ctr(seed, offset, out)

    def pack(self, values: Words, w: int, out: NDArray[np.uint8]) -> None:
        checks.check_packed(w, values, out)
        self.target.pack(values, w, out)

    def unpack(self, data: NDArray[np.uint8], w: int, out: Words) -> None:
        checks.check_packed(w, out, data)
        self.target.unpack(data, w, out)

    def mask(self, values: Words, seed: bytes, offset: int, w: int, out: NDArray[np.uint8]) -> None:
        checks.check_mask(values, seed, offset, w, out)
        self.target.mask(values, seed, offset, w, out)

    def combine(self, own: NDArray[np.uint8], peer: NDArray[np.uint8], w: int, out: Words, drop: int = 0) -> None:
        checks.check_combine(own, peer, w, out, drop)
        self.target.combine(own, peer, w, out, drop)

    def poly(
        self,
        operands: Sequence[Words | Operand],
        terms: Sequence[tuple[int, tuple[int, ...]]],
        w: int,
        out: Words,
    ) -> None:
        checks.check_poly(operands, terms, w, out)
        self.target.poly([encode_operand(o) for o in operands], terms, w, out)

    def matmul(self, a: Words, b: NDArray[Any], w: int, out: Words) -> None:
        checks.check_matmul(a, b, w, out)
        self.target.matmul(a, b, w, out)

    def dpf_gen(
        self, m: int, alpha: Words, root0: Words, root1: Words, tweak: Tweak, cw: Words, leaf: Words, sigma: Bits
    ) -> None:
        n = checks.check_dpf(m, {"alpha": alpha}, {"root0": root0, "root1": root1, "leaf": leaf}, cw, tweak)
        checks.check_array("sigma", sigma, (n,), np.uint8)
        self.target.dpf_gen(m, alpha, root0, root1, tweak.tape, tweak.gate, tweak.first, cw, leaf, sigma)

    def dpf_eval(
        self,
        party: int,
        m: int,
        root: Words,
        cw: Words,
        leaf: Words,
        tweak: Tweak,
        x_hat: Words,
        questions: Sequence[Question],
        outs: Sequence[NDArray[Any]],
    ) -> None:
        n = checks.check_dpf(m, {"x_hat": x_hat}, {"root": root, "leaf": leaf}, cw, tweak)
        checks.check_eval(party, m, n, questions, outs)
        encoded = [encode(question, m, out) for question, out in zip(questions, outs, strict=True)]
        self.target.dpf_eval(party, m, root, cw, leaf, tweak.tape, tweak.gate, tweak.first, x_hat, encoded)

    def leaf_gen(
        self,
        m: int,
        points: int,
        alpha: Words,
        payload: Words,
        root0: Words,
        root1: Words,
        tweak: Tweak,
        cw: Words,
        leaf: Words,
    ) -> None:
        points, n, width = min(points, m), len(alpha), payload.shape[-1]
        checks.check_leaf(m, points, n, width, {"root0": root0, "root1": root1, "leaf": leaf}, cw, tweak)
        checks.check_array("alpha", alpha, (n,))
        checks.check_array("payload", payload, (n, width))
        self.target.leaf_gen(points, alpha, payload, root0, root1, tweak.tape, tweak.gate, tweak.first, cw, leaf)

    def leaf_eval(
        self,
        party: int,
        m: int,
        points: int,
        root: Words,
        cw: Words,
        leaf: Words,
        tweak: Tweak,
        x_hat: Words,
        d_hat: Words | None,
        first: int,
        value: Table,
        slope: Table | None,
        w: int,
        out: Words,
    ) -> None:
        points, n, width = min(points, m), len(x_hat), 1 if slope is None else 2
        checks.check_leaf(m, points, n, width, {"root": root, "leaf": leaf}, cw, tweak)
        checks.check_leaf_tables(party, m, x_hat, d_hat, value, slope)
        checks.check_width(w)
        checks.check_array("out", out, (n,))
        question = (x_hat, d_hat, first % 2**m, value, slope, w, out)
        self.target.leaf_eval(party, m, points, root, cw, leaf, tweak.tape, tweak.gate, tweak.first, *question)

    def onehot_share(self, r: Words, hot0: NDArray[Any], out: NDArray[Any]) -> None:
        checks.check_share(r, hot0, out)
        self.target.onehot_share(r, hot0, out)

    def onehot_counts(self, hot: NDArray[Any], t_hat: Words, out: NDArray[Any]) -> None:
        checks.check_counts(hot, t_hat, out)
        self.target.onehot_counts(hot, t_hat, out)
