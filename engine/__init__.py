"""Roundelay: two parties run a transformer on a private prompt and private weights, showing each other nothing.

    async with engine.connect("tcp://host:7000", dealer=("tcp://host:7001", key)) as session:
        result = await session.embed(["a private sentence"])

The names below are looked up when they are used: importing `engine` alone loads neither ZeroMQ nor NumPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.session import connect, pair

    __version__: str

__all__ = ["__version__", "connect", "pair"]


def __getattr__(name: str) -> Any:
    if name in ("connect", "pair"):
        from engine import session

        return getattr(session, name)
    if name == "__version__":
        from importlib.metadata import version

        return version("roundelay")
    raise AttributeError(f"module 'engine' has no attribute {name!r}")
