"""AES calls that a plan counts, against the tree."""

from __future__ import annotations

import pytest

from engine.cost import leaf_steps, lookup_steps
from engine.kernels.interface import leaf_blocks, leaf_levels, tree_levels


def touched(first: int, entries: int, m: int, points: int) -> set[int]:
    """Indices of the runs of 2^points points that a window holds points of; it goes around the end of the domain."""
    return {(first + i) % (1 << m) >> points for i in range(entries)}


def most(entries: int, m: int, points: int) -> int:
    return max(len(touched(first, entries, m, points)) for first in range(1 << m))


SIZES = [1, 2, 3, 8, 9, 40, 100, 127, 128, 129, 130, 256, 257, 258, 480, 578]


@pytest.mark.parametrize(("m", "entries"), [(m, n) for m in (1, 6, 7, 8, 9, 10, 11) for n in SIZES if n <= 1 << m])
def test_a_lookup_takes_its_blocks_and_the_nodes_above_wherever_its_window_begins(m: int, entries: int) -> None:
    blocks = most(entries, m, min(m, 7))
    nodes = sum(most(entries, m, m - depth) for depth in range(tree_levels(m)))
    assert lookup_steps(entries, m) == blocks + nodes


@pytest.mark.parametrize(("m", "entries"), [(m, n) for m in (3, 6, 9, 10) for n in SIZES if n <= 1 << m])
@pytest.mark.parametrize("points", [0, 1, 3])
def test_a_piece_takes_its_leaves_and_the_nodes_above(m: int, points: int, entries: int) -> None:
    levels = leaf_levels(m, points)
    nodes = sum(most(entries, m, m - depth) for depth in range(levels))
    assert leaf_steps(entries, points, 2, levels) == most(entries, m, points) * (1 << points) + nodes


@pytest.mark.parametrize("m", range(1, 65))
def test_leaves_and_levels_make_the_domain(m: int) -> None:
    assert leaf_blocks(m) * 2 ** tree_levels(m) == 2 ** max(m - 7, 0)
