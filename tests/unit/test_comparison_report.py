"""A comparison told: strict types, honest words, every arm in the tables, a results page that nobody typed."""

import copy
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from pydantic import ValidationError

from ecdctr.exceptions import InputError
from ecdctr.report.comparison import Comparison
from ecdctr.report.comparison_html import drawn_arms, render_comparison_html
from ecdctr.report.comparison_table import render_comparison_table
from ecdctr.report.comparison_words import between, cell, headline, sentence
from ecdctr.report.results import load_comparison, render_results, rendered, summarized, write_results
from ecdctr.report.results_page import render_page
from ecdctr.report.write import as_json

pytestmark = pytest.mark.unit

DOCS = Path(__file__).parents[2] / "docs"
ARMS = (
    "ecdctr", "ecdctr_no_tpm", "ecdctr_shuffled_embeddings", "ecdctr_pool_mean", "ecdctr_bn_keep", "target_only_wide",
    "finetune", "target_only",
)  # fmt: skip
DAYS = [f"2024-02-{number:02d}" for number in range(1, 5)]


def metrics(auc: float, rows: int = 400, clicks: int = 40) -> dict:
    return {
        "rows": rows, "clicks": clicks, "auc": auc, "gauc": None if rows < 50 else auc - 0.02, "log_loss": 0.3,
        "normalized_entropy": 0.97, "pcoc": 1.02, "expected_calibration_error": round(auc / 20, 4),
        "gauc_clicks": None if rows < 50 else auc - 0.03, "gauc_mean": None if rows < 50 else auc - 0.04, "binned_auc": auc,
    }  # fmt: skip


def arm(place: int) -> dict:
    auc = 0.66 - place / 200
    effort = {"rows": 100.0 + place, "seconds": 0.4}
    return {
        "title": f"Arm number {place}",
        "seeds": [{"seed": seed, **metrics(auc + seed / 1000)} for seed in (1, 2)],
        "mean": metrics(auc),
        "daily": [{"date": day, **metrics(auc, 100, 10)} for day in DAYS],
        "by_activity": {"1": metrics(auc, 20, 2), "2-4": metrics(auc, 380, 38)},
        "cold_users": {"cold": metrics(auc, 90, 9), "warm": metrics(auc, 310, 31)},
        "cold_ads": {"warm": metrics(auc)},
        "returning_users": {"returning": metrics(auc, 30, 3), "others": metrics(auc, 370, 37)},
        "calibration": [{"predicted": 0.05 * n, "observed": 0.04 * n, "rows": 80} for n in range(1, 10)],
        "forgetting": {
            "backward_transfer": -0.012, "low": -0.03, "high": 0.004, "backward_transfer_log_loss": -0.01,
            "window": ["2024-01-29", "2024-02-01"], "rows": 75, "clicks": 8,
            "curve": [{"date": day, "auc": auc - 0.004 * n, "log_loss": 0.3} for n, day in enumerate(DAYS)],
        },
        "train_seconds": 12.5 + place,
        "cost": {
            "updates": 3, "update": effort, "replays": 1, "replay": effort, "per_day": {"actr": effort, "cpm": effort},
            "retrained_daily": {"actr": {"rows": 3000.0, "seconds": None}, "cpm": {"rows": 90_000.0, "seconds": None}},
        },
    }  # fmt: skip


def difference(arm: str, baseline: str, metric: str, value: float, low: float, high: float, by_seed=None) -> dict:
    return {
        "arm": arm, "baseline": baseline, "metric": metric, "difference": value, "low": low, "high": high,
        "users": 211, "level": 0.95, "by_seed": by_seed or [value, value],
    }  # fmt: skip


def example() -> dict:
    told = [
        difference("ecdctr", "target_only", "auc", 0.021, 0.004, 0.039),
        difference("ecdctr", "target_only", "gauc", 0.01, -0.02, 0.04, [-0.01, 0.03]),
        difference("finetune", "target_only", "auc", -0.02, -0.03, -0.01),
        difference("ecdctr_no_tpm", "target_only", "auc", 0.002, -0.01, 0.014),
        difference("ecdctr", "finetune", "auc", 0.041, 0.02, 0.06),
        difference("ecdctr_shuffled_embeddings", "ecdctr_no_tpm", "auc", 0.001, -0.004, 0.006),
    ]
    return {
        "schema_version": 1, "run_id": "shop-0123456789ab", "config_digest": "0123456789ab" * 5, "code_version": "0.1.0",
        "ranks": 2, "description": "A made-up log", "command": "ecdctr compare --config conf/datasets/shop.yml --seeds 2",
        "dataset": {
            "name": "shop", "natural_rows": 90_000, "ad_rows": 4_000, "users": 900, "items": 300, "from": "2024-01-01",
            "until": "2024-02-05",
        },
        "window": [DAYS[0], "2024-02-05"], "seeds": [1, 2], "arms": {name: arm(n) for n, name in enumerate(ARMS)},
        "differences": told, "seconds": {"prepare": 1.0, "walk": 2.0, "evaluate": 3.0, "total": 6.0},
    }  # fmt: skip


def comparison(**changes) -> Comparison:
    return Comparison.model_validate(example() | changes)


class Structure(HTMLParser):
    """Tags that are open, and all text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "br", "path", "use", "circle", "rect", "line"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()
        elif tag not in ("path", "use", "circle", "rect", "line"):
            raise AssertionError(f"</{tag}> closes {self.open[-3:]}")

    def handle_data(self, data):
        self.text += data


def test_the_file_follows_the_contract_and_survives_a_round_trip():
    tree = json.loads(as_json(comparison().tree()))
    found = tree["arms"]["ecdctr"]
    assert {"seeds", "mean", "by_activity", "forgetting", "train_seconds"} <= set(found)
    assert isinstance(found["forgetting"]["backward_transfer"], float)
    assert {"arm", "baseline", "metric", "difference", "low", "high", "users"} <= set(tree["differences"][0])
    assert Comparison.model_validate_json(json.dumps(tree)) == comparison()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("arms.ecdctr.mean.auc", 1.2),
        ("arms.ecdctr.title", 3),
        ("seeds", ["1"]),
        ("window", ["2024-02-05", "2024-02-01"]),
    ],
)
def test_what_is_no_comparison_is_refused(path, value):
    tree = copy.deepcopy(example())
    *way, last = path.split(".")
    at = tree
    for key in way:
        at = at[key]
    at[last] = value
    with pytest.raises(ValidationError):
        Comparison.model_validate(tree)


def test_the_page_is_whole_and_names_every_arm():
    page = render_comparison_html(comparison())
    structure = Structure()
    structure.feed(page)
    assert structure.open == []
    assert all(f"Arm number {place}" in structure.text for place in range(len(ARMS)))
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "<script" not in page
    assert page == render_comparison_html(comparison())


def test_calibration_and_the_other_gaucs_are_told_of_every_arm():
    page = render_comparison_html(comparison())
    whole = page[page.index("All arms, every metric") :]
    for found in comparison().arms.values():
        error = f"{found.mean.expected_calibration_error:.4f}"
        assert page.index(f"<td>1.0200</td><td>{error}</td>") < page.index("All arms, every metric")
        assert (
            f"<td>1.0200</td><td>{error}</td><td>{found.mean.gauc_clicks:.4f}</td><td>{found.mean.gauc_mean:.4f}</td>"
            in whole
        )
    earlier = example()
    for found in earlier["arms"].values():
        for name in ("expected_calibration_error", "gauc_clicks", "gauc_mean", "binned_auc"):
            del found["mean"][name]
    assert "<td>1.0200</td><td>–</td>" in render_comparison_html(Comparison.model_validate(earlier))


def test_plots_show_the_baselines_and_the_whole_method_whatever_the_order():
    drawn = drawn_arms(comparison())
    assert drawn[:3] == ["ecdctr", "target_only", "finetune"]
    assert len(drawn) == 6


def test_names_from_data_do_no_harm():
    harm = "<script>alert(1)</script>"
    tree = example()
    tree["arms"][harm] = tree["arms"]["ecdctr"] | {"title": harm}
    tree["description"] = harm
    page = render_comparison_html(Comparison.model_validate(tree))
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_an_open_difference_says_what_could_have_been_seen_and_is_not_starred():
    found = comparison()
    open_one = between(found, "ecdctr_no_tpm", "target_only", "auc")
    assert "no difference could be told" in sentence(found, open_one)
    # Half the interval's width over 1.96, times 2.80: 1.72 points.
    assert "could be seen is about 1.72 points" in sentence(found, open_one)
    assert cell(open_one) == "+0.20 [−1.00, +1.40]"
    assert cell(between(found, "ecdctr", "target_only", "auc")) == "+2.10 [+0.40, +3.90] *"
    assert cell(None) == "–"


def test_seeds_that_disagree_are_named():
    found = comparison()
    assert "The seeds disagree" in sentence(found, between(found, "ecdctr", "target_only", "gauc"))
    assert "The seeds disagree" not in sentence(found, between(found, "ecdctr", "target_only", "auc"))


@pytest.mark.parametrize(
    ("differences", "said"),
    [
        (example()["differences"], "1 of 7 arms beat “Arm number 7” in AUC or GAUC beyond chance, 1 fell behind"),
        (
            example()["differences"][3:4],
            "No arm could be told from “Arm number 7”: the days hold too few clicks for the differences there are; one of 1.72 AUC points "
            "would have been told in any of them, four times out of five.",
        ),
        ([], "cannot tell the arms apart"),
    ],
)
def test_the_headline_counts_what_is_beyond_chance(differences, said):
    assert said in headline(comparison(differences=differences))


def test_without_a_baseline_nothing_is_claimed():
    tree = example()
    tree["arms"] = {"ecdctr": tree["arms"]["ecdctr"]}
    tree["differences"] = []
    found = Comparison.model_validate(tree)
    assert "nothing to compare with" in headline(found)
    assert "nothing to compare with" in render_comparison_html(found)
    assert "ecdctr" in render_comparison_table(found)


def test_days_without_a_click_make_pages_of_dashes_and_claim_nothing():
    tree = example() | {"differences": []}
    nothing = dict.fromkeys(("auc", "gauc", "normalized_entropy", "pcoc", "gauc_clicks", "gauc_mean", "binned_auc"))
    for found in tree["arms"].values():
        sets = [found["mean"], *found["seeds"], *found["daily"]]
        sets += [
            part for key in ("by_activity", "cold_users", "cold_ads", "returning_users") for part in found[key].values()
        ]
        for metrics_of in sets:
            metrics_of |= nothing | {"clicks": 0}
        found["forgetting"] = {"window": ["2024-01-29", "2024-02-01"], "rows": 75, "clicks": 0, "curve": []}
    empty = Comparison.model_validate(tree)
    for page in (
        render_comparison_html(empty),
        render_comparison_table(empty),
        render_results([empty]),
        render_page(empty),
    ):
        assert "cannot tell the arms apart" in page
        assert "beyond chance." not in page
        assert "0.5000" not in page
    assert "| AUC at or above every baseline? | not compared |" in render_results([empty])


def test_a_comparison_without_holdout_says_that_forgetting_was_not_measured():
    tree = example()
    for found in tree["arms"].values():
        found["forgetting"] = {}
    assert "Not measured: no rows were held out" in render_comparison_html(Comparison.model_validate(tree))


def test_the_closing_table_has_a_line_for_every_arm():
    lines = render_comparison_table(comparison(), Path("runs/shop/compare.html")).splitlines()
    assert [line.split()[0] for line in lines[2 : 2 + len(ARMS)]] == list(ARMS)
    assert len({len(line) for line in lines[: 2 + len(ARMS)]}) == 1
    assert lines[-1] == "report: runs/shop/compare.html"


def test_the_results_page_is_made_of_what_is_stored(tmp_path):
    path = tmp_path / "compare.json"
    path.write_text(as_json(comparison().tree()))
    assert write_results(tmp_path / "docs", [path]) == ["results.md", "results/shop.md"]
    stored = tmp_path / "docs" / "results" / "shop.json"
    assert load_comparison(stored) == summarized(comparison())
    summary = (tmp_path / "docs" / "results.md").read_text()
    assert "| `ecdctr` | 0.6600 | 0.6400 | 0.3000 | 0.0330 | +4.10 [+2.00, +6.00] * |" in summary
    assert "[shop](results/shop.md)" in summary
    page = (tmp_path / "docs" / "results" / "shop.md").read_text()
    assert "| `ecdctr` | 0.6600 | 0.6400 |" in page
    assert "+2.10 [+0.40, +3.90] *" in page
    assert "-1.20" not in page
    assert "−1.20 [−3.00, +0.40]" in page
    # Again without naming a file: nothing changes.
    assert write_results(tmp_path / "docs", []) == ["results.md", "results/shop.md"]
    assert (tmp_path / "docs" / "results.md").read_text() == summary
    assert (tmp_path / "docs" / "results" / "shop.md").read_text() == page
    with pytest.raises(InputError, match="no comparison"):
        write_results(tmp_path / "docs", [tmp_path / "docs" / "results.md"])


def test_the_documentation_says_what_the_stored_comparisons_say():
    for name, page in rendered(DOCS).items():
        assert (DOCS / name).read_text() == page, "run: make results"


def named(name: str, differences: list[dict], rows: int | None = None) -> Comparison:
    """Of a log of its own: no two have as many rows, unless these are given."""
    tree = example()
    tree["dataset"] = tree["dataset"] | {"name": name, "natural_rows": rows or 1000 + sum(name.encode())}
    tree["arms"] |= dict.fromkeys(("star", "ecdctr_gate"), tree["arms"]["ecdctr"])
    return Comparison.model_validate(tree | {"differences": differences})


def test_the_summary_says_on_how_many_data_sets_the_aim_is_reached():
    above = difference("ecdctr", "finetune", "gauc", 0.02, 0.01, 0.03)
    both = render_results([named("shop", [above]), named("mall", [above])])
    assert "| `ecdctr` | nowhere | shop, GAUC; mall, GAUC | nowhere | nowhere |" in both
    assert "**So much is reached by `ecdctr`.**" in both
    assert "- `ecdctr` is below no baseline and above `finetune` beyond chance on two data sets;" in both
    one = render_results([named("shop", [above]), named("mall", [])])
    assert "**No arm reaches so much.**" in one
    again = render_results([named("shop", [above], 1234), named("shop_tuned", [above], 1234)])
    assert "**No arm reaches so much.**" in again, "one log twice is no second data set"
    lost = difference("ecdctr", "star", "auc", -0.02, -0.03, -0.01)
    beaten = render_results([named("shop", [above, lost]), named("mall", [above])])
    assert "shop, AUC of `star`" in beaten
    assert "**No arm reaches so much.**" in beaten


def test_remedies_are_told_with_what_they_are_a_remedy_of_and_open_ones_are_open():
    gate = difference("ecdctr_gate", "ecdctr", "auc", 0.01, 0.002, 0.02)
    page = render_results([named("shop", [gate]), named("mall", [])])
    assert "## What each remedy brought" in page
    assert "| better in AUC of shop | `ecdctr_gate` − `ecdctr` | +1.00 [+0.20, +2.00] * | – |  |  |" in page
    assert "- Remedies that helped beyond chance somewhere: `ecdctr_gate` (better in AUC of shop)." in page
    unsure = difference("ecdctr_gate", "ecdctr", "auc", 0.01, -0.01, 0.03)
    # Half the interval's width over 1.96, times 2.80: 2.86 points.
    assert "| cannot be told; 2.86 AUC points would have been |" in render_results([named("shop", [unsure])])
    assert "| remedy |" not in render_results([named("shop", [])])


def test_the_days_on_which_remedies_were_chosen_are_told_apart(tmp_path):
    gate = difference("ecdctr_gate", "ecdctr", "auc", 0.01, 0.002, 0.02)
    path = tmp_path / "compare.json"
    path.write_text(as_json(named("mall", [gate]).tree()))
    write_results(tmp_path, [path], [path])
    assert load_comparison(tmp_path / "results" / "earlier" / "mall.json") == summarized(named("mall", [gate]))
    page = (tmp_path / "results.md").read_text()
    assert page.count("better in AUC") == 3
    assert "## On which days the remedies were chosen" in page
    assert "chosen" not in render_results([named("mall", [gate])])


def test_the_long_list_of_pairs_is_folded_on_the_page_of_its_data_set():
    page = render_page(comparison())
    assert "<details><summary>1 differences in words</summary>" in page
    assert "could be seen" not in render_results([comparison()])
    assert render_results([]).endswith("No comparison is stored yet.\n")
