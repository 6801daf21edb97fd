"""The history of the checks: from the table to the report's page, its JSON and `tables show`, all without Spark."""

import datetime as dt
import json
from types import SimpleNamespace

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from ecdctr.cli import app
from ecdctr.lake.tables import Lake
from ecdctr.pipelines.inspect import show_table
from ecdctr.pipelines.quality import quality_history, recent_outcomes
from ecdctr.report.html import render_html
from ecdctr.report.quality import LINES, SHOWN, out_of_bounds, quality_plots
from ecdctr.report.schema import Report
from tests.unit.hand_made_tables import write_table
from tests.unit.test_report_whole import HARM, Outline, example

pytestmark = pytest.mark.unit

START = dt.date(2024, 3, 1)
FIELDS = {
    "domain": "string", "event_date": "date", "check": "string", "subject": "string", "value": "double",
    "expected": "double", "days": "integer", "outcome": "string", "checked_at": "timestamp",
}  # fmt: skip


def day(offset):
    return START + dt.timedelta(days=offset)


def no_spark():
    raise AssertionError("Spark was asked for")


@pytest.fixture
def workspace(tmp_path):
    """A warehouse whose `data_quality` has two commits: ten days, then the last of them checked anew."""

    def row(offset, value, outcome, minute=0, check="volume", subject="", domain="ad"):
        expected = None if outcome == "no_history" else 100.0
        at = dt.datetime(2024, 4, 1, 0, minute, tzinfo=dt.UTC)
        return [domain, day(offset), check, subject, value, expected, 7, outcome, at]

    first = [row(offset, 100.0 + offset, "ok" if offset > 2 else "no_history") for offset in range(10)]
    first[4] = row(4, 300.0, "warn")
    first[9] = row(9, 20.0, "quarantine")
    first.append(row(9, 0.25, "ok", check="null_rate", subject="price", domain="natural"))
    write_table(tmp_path, "data_quality", FIELDS, [first, [row(9, 101.0, "ok", minute=5)]])
    return SimpleNamespace(lake=Lake(no_spark, tmp_path))


def test_a_day_that_was_checked_anew_has_its_newest_outcome(workspace):
    rows, missing = quality_history(workspace)
    assert (missing["domain"], missing["check"], missing["subject"]) == ("natural", "null_rate", "price")
    assert [found["outcome"] for found in rows["days"]] == ["no_history"] * 3 + ["ok", "warn"] + ["ok"] * 5
    assert (rows["days"][9]["value"], rows["days"][0]["expected"]) == (101.0, None)


def test_a_warehouse_without_checks_has_no_history(tmp_path):
    assert quality_history(SimpleNamespace(lake=Lake(no_spark, tmp_path))) == []


def test_rows_for_people_are_the_last_days_and_all_that_was_out_of_bounds(workspace):
    found = recent_outcomes(workspace, days=2)
    assert [(row["day"], row["check"], row["outcome"]) for row in found] == [
        ("2024-03-10", "volume", "ok"), ("2024-03-10", "null_rate", "ok"), ("2024-03-09", "volume", "ok"),
        ("2024-03-05", "volume", "warn"),
    ]  # fmt: skip
    assert (found[3]["value"], found[3]["expected"]) == ("300", "100")


def test_tables_show_tells_columns_and_outcomes(workspace, monkeypatch, tmp_path):
    shown = show_table(workspace, "data_quality")
    assert shown["columns"][6] == {"column": "days", "type": "int", "meaning": "what days is"}
    assert (shown["version"], shown["rows"], len(shown["outcomes"])) == (1, 12, 11)
    config = tmp_path / "c.yml"
    config.write_text(
        "dataset: {natural: {path: n}, ads: {path: a}, columns: {user: u, item: i, time: {column: t, unit: s}, label: y}}\n"
    )
    options = ["--config", str(config), "--set", f"warehouse={tmp_path.parent}", "--set", f"name={tmp_path.name}"]
    done = CliRunner().invoke(app, ["tables", "show", "data_quality", *options])
    assert done.exit_code == 0, done.output
    assert "data_quality: version 1, 12 rows" in done.stdout
    assert "what outcome is" in done.stdout
    assert "2024-03-05" in done.stdout
    assert "warn" in done.stdout


def check(domain="ad", name="volume", subject="", out=(), days=20, value=1000.0, outcome="warn"):
    return {
        "domain": domain, "check": name, "subject": subject,
        "days": [
            {
                "date": str(day(offset)), "value": value * (3 if offset in out else 1),
                "expected": None if offset < 3 else value, "outcome": outcome if offset in out else "ok",
            }
            for offset in range(days)
        ],
    }  # fmt: skip


def report(*checks) -> Report:
    return Report.model_validate(example() | {"quality": list(checks)})


def test_the_page_draws_each_check_and_names_what_was_out_of_bounds():
    found = report(
        check(out=(8, 12)), check(name="click_rate", value=0.04), check("natural", "volume", value=9e5),
        check("natural", "null_rate", "price", value=0.2, out=(5,), outcome="quarantine"),
        check("natural", "null_rate", "brand", value=0.1), check(name="new_ids", subject="user", value=0.02, days=1),
    )  # fmt: skip
    assert Report.model_validate_json(json.dumps(found.tree())) == found
    plots = quality_plots(found)
    assert [plot.title for plot in plots] == [
        "Rows, ads", "Click rate, ads", "Rows, natural content", "Missing values, natural content", "Rows with a new id, ads",
    ]  # fmt: skip
    assert plots[3].lines == ["price", "brand"]
    assert [str(found.date) for _, found in out_of_bounds(found)] == ["2024-03-13", "2024-03-09", "2024-03-06"]
    page = render_html(found)
    assert "Were the days as usual?" in page
    assert "Out of bounds, in red: 3 of 101 checks." in page
    assert "<td>2024-03-06</td>" in page
    assert "Missing values of price, natural content" in page
    assert "60 %" in page
    assert "put aside" in page
    outline = Outline()
    outline.feed(page)
    assert not outline.open
    assert len(outline.ids) == len(set(outline.ids))
    assert "No check was out of bounds." in render_html(report(check()))


def test_without_checks_the_page_has_no_such_part():
    assert "Were the days as usual?" not in render_html(report())
    assert Report.model_validate(example()).tree()["quality"] == []


def test_of_many_columns_those_with_most_to_say_are_drawn():
    columns = [
        check("natural", "null_rate", f"column{at}", value=0.01 * at, out=(4,) if at == 3 else ())
        for at in range(1, 40)
    ]
    [plot] = quality_plots(report(*columns))
    assert (plot.lines[0], len(plot.lines), plot.left_out) == ("column3", LINES, 39 - LINES)
    loud = report(*(check("natural", "null_rate", f"column{at}", value=0.1, out=range(20)) for at in range(10)))
    assert render_html(loud).count("Missing values of column") == SHOWN
    assert f"The newest {SHOWN}; all of them are in" in render_html(loud)


def test_names_of_columns_do_no_harm():
    page = render_html(report(*(check("natural", "null_rate", name, value=0.1, out=(4,)) for name in (HARM, "b"))))
    outline = Outline()
    outline.feed(page)
    assert "script" not in outline.tags
    assert "\x1b" not in page


@pytest.mark.parametrize(
    "wrong", [{"outcome": "good"}, {"value": float("nan")}, {"value": "1"}, {"date": "01.03.2024"}, {"more": 1}]
)
def test_other_forms_are_refused(wrong):
    tree = check(days=1)
    tree["days"][0] |= wrong
    with pytest.raises(ValidationError):
        report(tree)
