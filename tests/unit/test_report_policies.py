"""What AutoFT chose, from versions' records to the heat map of the report."""

import json
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from ecdctr.pipelines.summarize import _policies
from ecdctr.report import Report, render_html
from tests.unit.test_report_whole import HARM, Outline, example

pytestmark = pytest.mark.unit

DECISIONS = ["field.user_id", "layer.mlp.0"]


def version(arm: str, policies: dict | None):
    record = {} if policies is None else {"policies": policies}
    return SimpleNamespace(arm=arm, metrics_json=json.dumps(record))


def test_days_are_weighed_by_their_rows():
    found = _policies(
        [
            version("autoft", {"decisions": DECISIONS, "rows": {"10+": 30, "1": 10}, "tuned": {"10+": [1, 0], "1": [0.5, 1]}}),
            version("target_only", None),
            version("autoft", {"decisions": DECISIONS, "rows": {"1": 30, "2-4": 5}, "tuned": {"1": [0.1, 1], "2-4": [0, 0.2]}}),
        ]
    )  # fmt: skip
    assert list(found) == ["autoft"]
    assert list(found["autoft"]["by_activity"]) == ["1", "2-4", "10+"]
    assert found["autoft"]["by_activity"]["1"] == {"rows": 40, "tuned": [pytest.approx(0.2), 1.0]}
    assert found["autoft"]["by_activity"]["10+"]["tuned"] == [1, 0]
    assert found["autoft"]["decisions"] == DECISIONS


def with_policies(**changes) -> dict:
    parts = {"1": {"rows": 40, "tuned": [0.37, 1.0]}, "10+": {"rows": 30, "tuned": [0.0, 0.64]}}
    return example() | {"policies": {"ecdctr": {"decisions": DECISIONS, "by_activity": parts} | changes}}


def test_the_heat_map_shows_every_share():
    tree = with_policies()
    tree["policies"][HARM] = tree["policies"]["ecdctr"] | {"decisions": [HARM, "layer.mlp.0"]}
    page = render_html(Report.model_validate(tree))
    outline = Outline()
    outline.feed(page)
    assert not outline.open
    assert "script" not in outline.tags
    assert len(outline.ids) == len(set(outline.ids))
    assert "What was fine-tuned" in page
    for text in ("37 %", "100 %", "0 %", "64 %", "field.user_id", "layer.mlp.0"):
        assert text in page
    # The darker the more: the shares are the opacities of the cells.
    assert "opacity: 0.37" in page
    assert "What was fine-tuned" not in render_html(Report.model_validate(example()))


def test_a_share_is_asked_for_each_decision():
    with pytest.raises(ValidationError, match="one share for each of the 3 decisions"):
        Report.model_validate(with_policies(decisions=[*DECISIONS, "layer.mlp.1"]))
