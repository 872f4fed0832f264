"""A sweep as a picture: for each network a group of bars, with what network and compute would take alone marked."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

from engine.errors import InputError
from simulators.sweep import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FORMATS", "draw"]

FORMATS = ("svg", "png", "pdf")
INK, PAPER = "#1d1d1f", "#ffffff"
COLOURS = ("#2f6690", "#d17a22", "#4b8f5b", "#a23b52", "#6c5b9e", "#7a7a7a", "#c2a83e", "#3aa6a6")


def draw(rows: Sequence[Row], kind: str) -> bytes:
    """The picture in one of FORMATS. Raises InputError for another, for no rows, and where matplotlib is missing."""
    if kind not in FORMATS:
        raise InputError(f"a picture's file ends in {', '.join('.' + f for f in FORMATS)}, not in {'.' + kind!r}")
    if not rows:
        raise InputError("there is nothing to draw: the sweep has no rows")
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("pictures are drawn by matplotlib: pip install 'roundelay[pictures]'") from error
    networks = list(dict.fromkeys(r.network for r in rows))
    series = list(dict.fromkeys(_label(r, rows) for r in rows))
    with matplotlib.rc_context({"svg.hashsalt": "roundelay", "font.family": "sans-serif", "font.size": 10}):
        figure = Figure(figsize=(1.5 + len(networks) * max(1.5, 0.4 + 0.36 * len(series)), 4.4), facecolor=PAPER)
        axes = figure.add_subplot()
        _bars(axes, rows, networks, series)
        figure.tight_layout()
        out = BytesIO()
        figure.savefig(out, format=kind, dpi=160, metadata={"Date": None} if kind == "svg" else None)
    return out.getvalue()


def _bars(axes: Axes, rows: Sequence[Row], networks: list[str], series: list[str]) -> None:
    width = 0.8 / len(series)
    for r in rows:
        k = series.index(_label(r, rows))
        x = networks.index(r.network) - 0.4 + width * (k + 0.5)
        axes.bar(x, r.online, width * 0.92, color=COLOURS[k % len(COLOURS)])
        for value, style in ((r.wire, "-"), (r.compute, ":")):
            axes.hlines(value, x - width * 0.46, x + width * 0.46, color=INK, linestyle=style, linewidth=1.4)
        axes.annotate(f"{r.online:.3g}", (x, r.online), ha="center", va="bottom", fontsize=8, color=INK)
    _dress(axes, networks, series)


def _dress(axes: Axes, networks: list[str], series: list[str]) -> None:
    from matplotlib.artist import Artist
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Artist] = [Patch(color=COLOURS[k % len(COLOURS)], label=s) for k, s in enumerate(series)]
    handles += [
        Line2D([], [], color=INK, label="network alone"),
        Line2D([], [], color=INK, linestyle=":", label="compute alone"),
    ]
    axes.set_yscale("log")
    axes.set_ylabel("online seconds, predicted")
    axes.set_xticks(range(len(networks)), networks)
    axes.margins(y=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(handles=handles, frameon=False, fontsize=8, loc="upper left")


def _label(r: Row, rows: Sequence[Row]) -> str:
    """What tells a row's series from the others."""
    parts = [r.model]
    for name, text in (("tokens", f"{r.tokens} tokens"), ("weights", r.weights), ("variants", r.variants)):
        if len({getattr(other, name) for other in rows}) > 1:
            parts.append(text)
    return ", ".join(parts)
