"""Coroutine tests of this folder run in virtual time, with the roles of tests/session/stage.py."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from engine.models.compiled import CompiledModel
from simulators.clock import VirtualLoop
from tests.session.stage import Stage, checkpoint, compiled


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"virtual": VirtualLoop}


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> CompiledModel:
    return compiled(checkpoint(), tmp_path_factory.mktemp("small"))


@pytest.fixture
def stage(tmp_path: Path, small: CompiledModel) -> Stage:
    return Stage(tmp_path, small)
