"""The extension module, built from native/."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from engine.kernels.interface import Bits, Table
from engine.ring import Words

def targets() -> list[str]: ...

class Target:
    name: str
    def __init__(self, name: str) -> None: ...
    def ctr(self, seed: bytes, offset: int, out: Words) -> None: ...
    def pack(self, values: Words, w: int, out: Bits) -> None: ...
    def unpack(self, data: Bits, w: int, out: Words) -> None: ...
    def mask(self, values: Words, seed: bytes, offset: int, w: int, out: Bits) -> None: ...
    def combine(self, own: Bits, peer: Bits, w: int, out: Words, drop: int) -> None: ...
    def poly(
        self,
        operands: Sequence[tuple[Words | Bits | bytes, int, int, int, int, int, int, int, int]],
        terms: Sequence[tuple[int, tuple[int, ...]]],
        w: int,
        out: Words,
    ) -> None: ...
    def matmul(self, a: Words, b: NDArray[Any], w: int, out: Words) -> None: ...
    def dpf_gen(
        self,
        m: int,
        alpha: Words,
        root0: Words,
        root1: Words,
        tape: bytes,
        gate: int,
        first: int,
        cw: Words,
        leaf: Words,
        sigma: Bits,
    ) -> None: ...
    def dpf_eval(
        self,
        party: int,
        m: int,
        root: Words,
        cw: Words,
        leaf: Words,
        tape: bytes,
        gate: int,
        first: int,
        x_hat: Words,
        questions: Sequence[tuple[str, int, Table | tuple[int, int, bool] | int, NDArray[Any]]],
    ) -> None: ...
    def leaf_gen(
        self,
        points: int,
        alpha: Words,
        payload: Words,
        root0: Words,
        root1: Words,
        tape: bytes,
        gate: int,
        first: int,
        cw: Words,
        leaf: Words,
    ) -> None: ...
    def leaf_eval(
        self,
        party: int,
        m: int,
        points: int,
        root: Words,
        cw: Words,
        leaf: Words,
        tape: bytes,
        gate: int,
        first_instance: int,
        x_hat: Words,
        d_hat: Words | None,
        first: int,
        value: Table,
        slope: Table | None,
        w: int,
        out: Words,
    ) -> None: ...
    def onehot_share(self, r: Words, hot0: NDArray[Any], out: NDArray[Any]) -> None: ...
    def onehot_counts(self, hot: NDArray[Any], t_hat: Words, out: NDArray[Any]) -> None: ...
