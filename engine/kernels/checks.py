"""Argument checks that the back ends share, so that C++ never reads or writes beyond an array.

A failed check is a bug of the caller: LocalError, with names and shapes but never a value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from engine.errors import LocalError
from engine.kernels.interface import (
    Equal,
    HalfLine,
    Interval,
    Keystream,
    Lookup,
    Operand,
    Question,
    Tweak,
    leaf_levels,
    tree_levels,
    tree_words,
)
from engine.ring import Words, byte_width

__all__ = [
    "check_array",
    "check_combine",
    "check_counts",
    "check_ctr",
    "check_dpf",
    "check_eval",
    "check_leaf",
    "check_leaf_tables",
    "check_mask",
    "check_matmul",
    "check_packed",
    "check_poly",
    "check_share",
    "check_width",
]

MAX_DOMAIN_BITS = 64
MAX_LEAF_POINTS = 12


def require(condition: bool, message: str) -> None:
    """Raises LocalError(message) unless the condition holds."""
    if not condition:
        raise LocalError(message)


def check_array(name: str, array: NDArray[Any], shape: tuple[int, ...], dtype: DTypeLike = np.uint64) -> None:
    """A C-contiguous array of this shape and dtype."""
    if array.shape != shape or array.dtype != dtype or not array.flags.c_contiguous:  # the text costs more than a test
        raise LocalError(
            f"kernel argument {name} must be a C-contiguous {np.dtype(dtype)} array of shape {shape}, "
            f"not {array.dtype} of shape {array.shape}"
        )


def check_width(w: int) -> None:
    """A ring width."""
    require(1 <= w <= 64, f"ring width {w} is outside 1..64")


def check_ctr(seed: bytes, offset: int, out: NDArray[Any]) -> None:
    """A 16-byte seed, a word offset below 2^65 and a vector of words."""
    require(len(seed) == 16, f"an AES-128 seed has 16 bytes, not {len(seed)}")
    require(0 <= offset < 2**63, f"word offset {offset} is outside 0..2^63")
    check_array("out", out, (out.size,))


def check_packed(w: int, words: NDArray[Any], data: NDArray[Any]) -> None:
    """A vector of words and its packed bytes."""
    check_width(w)
    check_array("words", words, (words.size,))
    check_array("bytes", data, ((words.size * w + 7) // 8,), np.uint8)


def check_mask(values: NDArray[Any], seed: bytes, offset: int, w: int, out: NDArray[Any]) -> None:
    """A vector of shares, what `check_ctr` asks of their masks, and room for the packed message."""
    check_ctr(seed, offset, values)
    check_packed(w, values, out)


def check_combine(own: NDArray[Any], peer: NDArray[Any], w: int, out: NDArray[Any], drop: int) -> None:
    """Two packed messages of one opening, a vector of words, and fewer bits to drop than a word has."""
    check_packed(w, out, own)
    check_packed(w, out, peer)
    if not 0 <= drop < w:
        raise LocalError(f"of {w} bits 0 to {w - 1} can be dropped, not {drop}")


def check_poly(
    operands: Sequence[Words | Operand],
    terms: Sequence[tuple[int, tuple[int, ...]]],
    w: int,
    out: NDArray[Any],
) -> None:
    """Vectors as long as the result, operands that serve all of it, and terms that name existing ones."""
    check_width(w)
    check_array("out", out, (out.size,))
    for i, operand in enumerate(operands):
        if isinstance(operand, Operand):
            check_operand(f"operands[{i}]", operand, out.size)
        else:
            check_array(f"operands[{i}]", operand, (out.size,))
    for c, factors in terms:
        require(0 <= c < 2**64, "a coefficient is outside 0..2^64 - 1")
        require(all(0 <= i < len(operands) for i in factors), "a term names an operand that is not there")


def check_operand(name: str, o: Operand, n: int) -> None:
    """A source of at least one element, and numbers within 64 bits."""
    check_width(o.bits)
    shifts = 0 <= o.drop < 64 and 0 <= o.shift < 64
    require(shifts and 0 <= o.add < 2**64 and o.flip in (0, 1) and o.repeat > 0, f"{name} has a number out of range")
    if isinstance(o.source, Keystream):
        require(len(o.source.seed) == 16, f"an AES-128 seed has 16 bytes, not {len(o.source.seed)}")
        require(0 <= o.source.offset < 2**63, f"word offset {o.source.offset} is outside 0..2^63")
        size = o.source.size
    else:
        check_array(name, o.source, (o.source.size,), np.uint8 if o.source.dtype == np.uint8 else np.uint64)
        width = byte_width(o.bits) if o.source.dtype == np.uint8 else 1
        require(o.source.size % width == 0, f"{name} does not hold whole elements of {width} bytes")
        size = o.source.size // width
    require(size > 0 or n == 0, f"{name} is empty")


def check_matmul(a: NDArray[Any], b: NDArray[Any], w: int, out: NDArray[Any]) -> None:
    """(B, M, K) @ (B, K, N) -> (B, M, N)."""
    check_width(w)
    require(a.ndim == 3 and b.ndim == 3, "matmul takes arrays of three axes")
    require(b.dtype in (np.uint64, np.int16, np.int32), f"matmul does not take a right operand of {b.dtype}")
    check_array("a", a, a.shape)
    check_array("b", b, (a.shape[0], a.shape[2], b.shape[2]), b.dtype)
    check_array("out", out, (a.shape[0], a.shape[1], b.shape[2]))


def check_tweak(tweak: Tweak, n: int) -> None:
    """Public inputs of the key derivation that fit their fields."""
    require(len(tweak.tape) == 16, f"a tape id has 16 bytes, not {len(tweak.tape)}")
    require(0 <= tweak.gate < 2**64, "a gate number has 64 bits")
    require(tweak.first >= 0 and tweak.first + n <= 2**48, "an instance number has 48 bits")


def check_levels(name: str, cw: NDArray[Any], levels: int, n: int) -> None:
    """Correction words (levels, n, 2): any stride along the levels, contiguous within one."""
    if cw.shape != (levels, n, 2) or cw.dtype != np.uint64 or (cw.size and not cw[0].flags.c_contiguous):
        raise LocalError(
            f"kernel argument {name} must be uint64 of shape {(levels, n, 2)}, contiguous in a level, "
            f"not {cw.dtype} of shape {cw.shape}"
        )


def check_dpf(
    m: int, words: dict[str, NDArray[Any]], blocks: dict[str, NDArray[Any]], cw: NDArray[Any], tweak: Tweak
) -> int:
    """Domain, tweak, (n,) words, (n, 2) blocks and correction words of a bit DPF; gives n."""
    require(1 <= m <= MAX_DOMAIN_BITS, f"a DPF domain of {m} bits is outside 1..{MAX_DOMAIN_BITS}")
    n = len(next(iter(words.values())))
    for name, array in words.items():
        check_array(name, array, (n,))
    for name, array in blocks.items():
        check_array(name, array, (n, 2))
    check_levels("cw", cw, tree_words(m), n)
    check_tweak(tweak, n)
    return n


def check_eval(party: int, m: int, n: int, questions: Sequence[Question], outs: Sequence[NDArray[Any]]) -> None:
    """A party, and questions whose answers fit their outputs."""
    require(party in (0, 1), f"party {party} is neither 0 nor 1")
    require(len(questions) == len(outs), f"{len(questions)} questions have {len(outs)} outputs")
    for i, (question, out) in enumerate(zip(questions, outs, strict=True)):
        check_array(f"outs[{i}]", out, (n,), np.uint64 if isinstance(question, Lookup) else np.uint8)
        match question:
            case Interval(lo, hi):
                require(0 < hi - lo < 2**m, f"an interval of {hi - lo} values does not fit a domain of {m} bits")
            case HalfLine(lo, bound, _):
                require(tree_levels(m) > 0, f"a half-line needs a tree: a domain of {m} bits is a single leaf")
                require(0 <= bound < 1 << m - 2, f"in {m} bits a half-line takes |x| < 2^{m - 2}, not {bound}")
                require(abs(lo) <= bound, f"the half-line from {lo} does not begin within the bound {bound}")
            case Lookup(_, table):
                check_table("table", table, m)
            case Equal():
                pass


def check_table(name: str, table: NDArray[Any], m: int) -> None:
    """A vector of 1 to 2^m signed words."""
    check_array(name, table, (table.size,), np.int64)
    require(0 < table.size <= 2**m, f"a table of {table.size} entries does not fit a domain of {m} bits")


def check_leaf(
    m: int, points: int, n: int, width: int, arrays: dict[str, NDArray[Any]], cw: NDArray[Any], tweak: Tweak
) -> None:
    """Sizes of a DPF with arithmetic leaves: `leaf` is (n, 2^points width), all else (n, 2)."""
    require(1 <= m <= MAX_DOMAIN_BITS, f"a DPF domain of {m} bits is outside 1..{MAX_DOMAIN_BITS}")
    require(0 <= points <= min(m, MAX_LEAF_POINTS), f"2^{points} points a leaf: at most 2^{MAX_LEAF_POINTS}")
    for name, array in arrays.items():
        check_array(name, array, (n, width << points if name == "leaf" else 2))
    check_levels("cw", cw, leaf_levels(m, points), n)
    check_tweak(tweak, n)


def check_leaf_tables(
    party: int, m: int, x_hat: NDArray[Any], d_hat: NDArray[Any] | None, value: NDArray[Any], slope: NDArray[Any] | None
) -> None:
    """Masked inputs (n,) and tables of one length; a slope needs d_hat."""
    require(party in (0, 1), f"party {party} is neither 0 nor 1")
    require((d_hat is None) == (slope is None), "a slope and d_hat go together")
    check_table("value", value, m)
    check_array("x_hat", x_hat, (len(x_hat),))
    if slope is not None and d_hat is not None:
        check_array("slope", slope, value.shape, np.int64)
        check_array("d_hat", d_hat, x_hat.shape)


def check_share(r: NDArray[Any], hot0: NDArray[Any], out: NDArray[Any]) -> None:
    """r (n,), hot0 and out (n, B) of uint8 or uint16."""
    require(hot0.ndim == 2 and hot0.dtype in (np.uint8, np.uint16), "one-hot shares are (n, B) of uint8 or uint16")
    check_array("r", r, (len(hot0),))
    check_array("hot0", hot0, hot0.shape, hot0.dtype)
    check_array("out", out, hot0.shape, hot0.dtype)


def check_counts(hot: NDArray[Any], t_hat: NDArray[Any], out: NDArray[Any]) -> None:
    """hot (rows, length, B), t_hat (rows, length), out (rows, B); B a power of two."""
    require(hot.ndim == 3 and hot.dtype in (np.uint8, np.uint16), "one-hot shares are three axes of uint8 or uint16")
    rows, length, buckets = hot.shape
    require(buckets > 0 and buckets & (buckets - 1) == 0, f"{buckets} buckets are not a power of two")
    check_array("hot", hot, hot.shape, hot.dtype)
    check_array("t_hat", t_hat, (rows, length))
    check_array("out", out, (rows, buckets), hot.dtype)
