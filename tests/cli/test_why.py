"""`plan --why`: documented fields, for a shape, a gate and people."""

from __future__ import annotations

from typing import Any

import pytest

from tests.docs.test_results import DOCUMENTED, call


@pytest.fixture(scope="module")
def why() -> dict[str, Any]:
    result: dict[str, Any] = call("plan", "--shape", "bert-tiny", "--tokens", 5, "--why")
    return result


def test_every_list_has_its_documented_fields(why: dict[str, Any]) -> None:
    openings, keys, alternatives, dealt, variants = DOCUMENTED["plan --why"]
    listed = why["why"]
    assert set(listed) == {"openings", "keys", "coefficients", "variants"}
    pairs = ((listed["openings"], openings), (listed["coefficients"], dealt), (listed["variants"], variants))
    for rows, names in pairs:
        assert rows and all(set(row) == names for row in rows)
    plain = {name.removesuffix("[]") for name in keys}
    assert all(set(row) == plain for row in listed["keys"])
    assert all(set(a) == alternatives for row in listed["keys"] for a in row["alternatives"])


def test_one_option_of_each_kind_is_the_plans(why: dict[str, Any]) -> None:
    chosen = [v for v in why["why"]["variants"] if v["chosen"]]
    assert len(chosen) == len({v["kind"] for v in chosen}) and len({v["rounds"] for v in chosen}) == 1
    assert any(v["rounds"] < chosen[0]["rounds"] for v in why["why"]["variants"])


def test_a_gate_has_no_variants() -> None:
    found = call("plan", "gelu", "--why")["why"]
    assert found["keys"][0]["form"] == "interpolated" and not found["variants"]
    assert "why" not in call("plan", "gelu")
