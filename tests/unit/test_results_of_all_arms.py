"""A comparison of every arm: the page answers each question, says how the method stands, and what daily updates save."""

import json

import numpy as np
import pytest

from ecdctr.pipelines.arms import ARMS
from ecdctr.pipelines.differences import pairs
from ecdctr.report.answers import aim_rows, answer, answered, best_arms, chance_sentence, standing
from ecdctr.report.comparison import Comparison
from ecdctr.report.comparison_html import render_comparison_html
from ecdctr.report.comparison_table import render_comparison_table
from ecdctr.report.comparison_words import between
from ecdctr.report.questions import AIM, CONTROLS, MAIN, METHODS, REASONS, REMEDIES, RIVALS
from ecdctr.report.results import render_results
from ecdctr.report.results_page import render_page
from tests.unit.test_comparison_report import arm, difference, example

pytestmark = pytest.mark.unit

EVERY = list(ARMS)


def whole(name: str = "shop", **told: tuple[float, float]) -> Comparison:
    """Every arm of the package; differences within chance but for those given as `ARM__BASELINE=(value, half width)`."""
    rng = np.random.default_rng(5)
    found = []
    for one, baseline in pairs(EVERY):
        value, half = told.get(f"{one}__{baseline}", (0.001 * float(rng.random()), 0.01))
        for metric in ("auc", "gauc", "log_loss"):
            found.append(difference(one, baseline, metric, value, value - half, value + half))
    tree = example() | {"arms": {one: arm(place) for place, one in enumerate(EVERY)}, "differences": found}
    tree["dataset"] = tree["dataset"] | {"name": name}
    anew = {"rows": 1000.0, "seconds": 8.0}
    tree["arms"]["ecdctr_retrained"]["cost"] |= {"per_day": {"actr": anew, "cpm": anew}}
    return Comparison.model_validate(tree)


def test_every_question_names_arms_that_exist_and_is_compared():
    asked = [*REASONS, *REMEDIES]
    assert {name for question in asked for name in (question.arm, question.baseline)} <= set(ARMS)
    assert set(MAIN) | set(CONTROLS) | set(METHODS) | set(RIVALS) <= set(ARMS)
    assert len(MAIN) == len(set(MAIN))
    comparison = whole()
    assert all(between(comparison, q.arm, q.baseline, "gauc") for q in asked)
    assert [q for _, part in answered(comparison) for q in part] == asked


def test_every_arm_of_the_method_meets_every_rival():
    found = set(pairs(EVERY))
    met = {frozenset(pair) for pair in found}
    # Once for two arms, but that each baseline's row tells its difference to the other one.
    assert len(met) == len(found) - 1
    assert all(frozenset((one, rival)) in met for one in METHODS for rival in RIVALS if one != rival)


def test_each_question_is_answered_once_on_both_pages():
    comparison = whole(ecdctr__ecdctr_snapshots_1=(0.02, 0.01), ecdctr__ecdctr_bn_keep=(-0.02, 0.01))
    summary, page = render_results([comparison]), render_comparison_html(comparison)
    for question in (*REASONS, *REMEDIES):
        row = f"| {question.asked} | {answer([comparison], question)} | `{question.arm}` − `{question.baseline}` |"
        assert summary.count(row) == 1
        assert f"<td>{question.asked.replace(chr(39), '&#39;')}</td>" in page
    assert "newest alone? | better in AUC and in GAUC | `ecdctr`" in summary
    assert "On top of all levels? | worse in AUC and in GAUC | `ecdctr`" in summary
    assert "By layers alone? | cannot be told; 1.43 AUC points would have been |" in summary


def test_the_main_table_has_the_named_arms_with_intervals_against_both_simple_baselines():
    comparison = whole()
    summary = render_results([comparison])
    rows = [line for line in summary.splitlines() if line.startswith("| `") and line.count("|") == 12]
    assert [row.split("`")[1] for row in rows] == list(MAIN)
    assert (
        "| arm | AUC | GAUC | Log loss | ECE | AUC − `finetune` | GAUC − `finetune` | Log loss − `finetune` |"
        in summary
    )
    assert all("[" in row for row in rows)
    # The arms beside it are on the page of the data set.
    assert all(f"| `{one}` |" in render_page(comparison) for one in EVERY)


def test_how_the_method_stands_is_said_with_whom_it_is_below():
    comparison = whole(ecdctr__star=(-0.012, 0.01), ecdctr__mmoe=(-0.002, 0.01), ecdctr__finetune=(0.02, 0.01))
    found = standing(comparison, "ecdctr", "auc")
    assert [each.baseline for each in found.below] == ["star", "mmoe"]
    assert found.text == "no, 8 of 10; below `star` −1.20 *, `mmoe` −0.20"
    rows = {row[0]: row[1:] for row in aim_rows(comparison)}
    assert rows[""] == [f"`{name}`" for name in AIM]
    assert rows["Above `finetune` beyond the interval?"][0] == "yes in AUC (+2.00 *) and GAUC (+2.00 *)"
    assert rows["Above `finetune` beyond the interval?"][1].startswith("no; AUC (+0.0")
    assert rows["AUC at or above every baseline?"][1] == "yes, 10 of 10"
    assert rows["Below `target_only` anywhere?"] == ["no", "no"]
    lost = {row[0]: row[1:] for row in aim_rows(whole(ecdctr__target_only=(-0.02, 0.01)))}
    assert lost["Below `target_only` anywhere?"][0] == "yes in AUC (−2.00 *) and GAUC (−2.00 *)"
    page = render_comparison_html(comparison)
    assert '<td class="left">no, 8 of 10; below <code>star</code> −1.20 *, <code>mmoe</code> −0.20</td>' in page


def test_a_control_is_never_the_best_arm():
    tree = whole().tree()
    tree["arms"]["autoft_random"]["mean"]["auc"] = 0.9
    tree["arms"]["star"]["mean"]["auc"] = 0.8
    assert best_arms(Comparison.model_validate_json(json.dumps(tree)))[0] == ("auc", "star", "0.8000")


def test_a_difference_reads_both_ways():
    comparison = whole(ecdctr__star=(-0.012, 0.002))
    turned = between(comparison, "star", "ecdctr", "auc")
    assert (turned.arm, turned.baseline) == ("star", "ecdctr")
    assert (turned.difference, turned.low, turned.high) == pytest.approx((0.012, 0.010, 0.014))
    assert turned.by_seed == [0.012, 0.012]


def test_what_daily_updates_save_is_measured_against_the_retrained_twin():
    comparison = whole(ecdctr_retrained__ecdctr=(0.004, 0.01))
    summary = render_results([comparison])
    # Two levels of 100 rows and 0.4 s against two of 1000 rows and 8 s; all three anew would read 93,000.
    kept = "0.6600 (−0.40 [−1.40, +0.60]) | 0.6400 (−0.40 [−1.40, +0.60])"
    assert (
        f"| shop | 100 | 200 (100 + 100) | 0.8 | 2,000 (10.0×) | 16.0 (20.0×) | 93,000 (465.0×) | {kept} |" in summary
    )


def test_the_closing_table_stays_short_and_chance_is_counted():
    comparison = whole(ecdctr__ecdctr_snapshots_1=(0.02, 0.01))
    lines = render_comparison_table(comparison).splitlines()
    assert (
        lines[-1]
        == f"  of {2 * len([*REASONS, *REMEDIES])} further answers, {2 * len([*REASONS, *REMEDIES]) - 2} could not be told"
    )
    told = 2 * len(pairs(EVERY))
    assert chance_sentence(comparison).startswith(f"2 of {told} differences in AUC and GAUC are beyond their interval;")
    assert f"about {round(told / 20)} would still be" in chance_sentence(comparison)
    assert chance_sentence(comparison.model_copy(update={"differences": []})) == ""
