"""How versions were trained, as the report shows it: phases of a step, epochs."""

import pytest

from ecdctr.report import Report, render_html
from ecdctr.report.html import STEP_PHASES, _phases
from tests.unit.test_report_whole import example

pytestmark = pytest.mark.unit


def test_phases_come_in_one_order_for_all_levels_also_beside_versions_that_lack_one():
    shares = dict(_phases(Report.model_validate(example())))
    assert [[phase for phase, _ in level] for level in shares.values()] == [list(STEP_PHASES)] * 3
    assert all(sum(share for _, share in level) == pytest.approx(1.0) for level in shares.values())
    assert dict(shares["tpm"])["lookup"] == 0.0
    assert dict(shares["actr"])["lookup"] == pytest.approx(0.1)


def test_a_version_that_stopped_early_says_so():
    tree = example()
    seen = [{"epoch": at, "step": 9 * at, "rows": 5, "log_loss": 0.5, "auc": 0.6, "gauc": None} for at in (1, 2, 3)]
    tree["levels"]["cpm"][0]["early_stopping"] = {"metric": "log_loss", "best_epoch": 2, "epochs": 3, "looks": seen}
    page = render_html(Report.model_validate(tree))
    assert page.count("(epoch 2 of 3)") == 1
    assert "best of 3 epochs by log_loss" in page
