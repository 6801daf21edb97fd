"""The report: strict types, null instead of NaN, harmless names, honest words, whole files."""

import copy
import datetime as dt
import json
import math
import os
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from pydantic import ValidationError

from ecdctr.artifacts.files import digest_file
from ecdctr.report import Report, render_html, render_table, write_report
from ecdctr.report.lineage import ancestry
from ecdctr.report.wording import duration, size

pytestmark = pytest.mark.unit

START = dt.date(2024, 3, 1)
ARMS = {"ecdctr": 0.018, "ecdctr_no_tpm": 0.012, "target_only": 0.0}


def day(offset: int) -> str:
    return (START + dt.timedelta(days=offset)).isoformat()


def version(level, number, arm, window, parents, rows, rng):
    seconds = float(rows / rng.uniform(30_000, 45_000))
    return {
        "version": f"{level}-{arm}-{window[1]}-{number:08x}", "parents": parents, "window": list(window), "rows": rows,
        "steps": max(1, rows // 512), "seconds": seconds, "samples_per_second": rows / seconds,
        "peak_rss_bytes": 1_130_000_000, "parameters": {"tpm": 424_000, "cpm": 1_205_331, "actr": 1_205_331}[level],
        "train_log_loss": float(0.24 if level == "actr" else 0.41), "arm": arm, "date": window[1],
        "phases": {"input": 0.3 * seconds, **({"forward": 0.25 * seconds} if level == "tpm" else {"lookup": 0.1 * seconds, "forward": 0.15 * seconds}), "backward": 0.28 * seconds, "exchange": 0.09 * seconds, "update": 0.08 * seconds},
    }  # fmt: skip


def metrics(rng, gain, rows):
    clicks = int(rows * rng.uniform(0.03, 0.045))
    return {
        "rows": rows, "clicks": clicks, "auc": float(0.652 + gain + rng.normal() * 0.008),
        "gauc": float(0.611 + gain + rng.normal() * 0.012), "log_loss": float(0.151 - gain / 8 + rng.normal() * 0.003),
        "normalized_entropy": float(0.962 - gain / 2), "pcoc": float(1.02 - gain + rng.normal() * 0.05),
    }  # fmt: skip


def example(seed: int = 3) -> dict:
    """Realistic figures of 60 days with 14 walked ones."""
    rng = np.random.default_rng(seed)
    tpm, cpm, actr = [], [], []
    for number, until in enumerate((26, 36, 46, 56)):
        window = (day(until - 20 if not number else until - 10), day(until))
        tpm.append(
            version(
                "tpm", number, "base", window, [tpm[-1]["version"]] if tpm else [], 180_000 // (1 + bool(number)), rng
            )
        )
    for number, until in enumerate((46, 53)):
        for arm in ("history", "plain"):
            parents = [v["version"] for v in tpm if v["date"] <= day(until)] if arm == "history" else []
            cpm.append(version("cpm", number, arm, (day(until - 14), day(until)), parents, 121_000, rng))
    for arm in ARMS:
        for offset in range(46, 60):
            fresh = offset in (46, 53) or (arm == "target_only" and offset == 46)
            source = {"ecdctr": "history", "ecdctr_no_tpm": "plain"}.get(arm)
            parents = [v["version"] for v in cpm if v["arm"] == source and v["date"] <= day(offset)][-1:]
            if arm == "ecdctr":
                parents += [v["version"] for v in tpm if v["date"] <= day(offset)][-3:]
            window = (day(offset - 30 if fresh else offset - 1), day(offset))
            if not fresh:
                parents.append(actr[-1]["version"])
            actr.append(version("actr", offset, arm, window, parents, 10_400 if fresh else 350, rng))
    daily = {
        arm: [
            {"date": day(offset), **metrics(np.random.default_rng(offset), gain + rng.normal() * 0.004, 340 + offset), "model_version": f"actr-{arm}-{day(offset)}"}
            for offset in range(46, 60)
        ]
        for arm, gain in ARMS.items()
    }  # fmt: skip
    pooled = {
        arm: metrics(np.random.default_rng(1), gain, sum(d["rows"] for d in daily[arm])) for arm, gain in ARMS.items()
    }
    found = {
        "auc": (0.0182, 0.0061, 0.0308, 2911),
        "gauc": (0.0121, -0.0072, 0.0317, 183),
        "log_loss": (-0.0023, -0.0041, -0.0006, 2911),
    }
    differences = [
        {"arm": arm, "baseline": "target_only", "metric": name, "difference": d * scale, "low": low * scale, "high": high * scale, "users": users, "level": 0.95}
        for arm, scale in (("ecdctr", 1.0), ("ecdctr_no_tpm", 0.7)) for name, (d, low, high, users) in found.items()
    ]  # fmt: skip
    rates = np.linspace(0.008, 0.09, 10)
    curves = {
        v["version"]: [[step, float(0.2 + 0.12 * math.exp(-step / 60) + rng.normal() * 0.006)] for step in range(0, v["steps"], max(1, v["steps"] // 40))]
        for v in (*tpm, *cpm, *actr)
    }  # fmt: skip
    return {
        "schema_version": 1, "run_id": "quickstart-5e3c9a7b12f0", "config_digest": "5e3c9a7b12f0" + "4" * 52, "code_version": "0.1.0",
        "seed": 7, "ranks": 2,
        "dataset": {"name": "quickstart", "natural_rows": 421_337, "ad_rows": 21_068, "users": 6_012, "items": 2_940, "from": day(0), "until": day(60)},
        "tables": {name: {"version": 12, "rows": rows, "bytes": rows * 61, "files": 240} for name, rows in (("natural_samples", 421_337), ("ad_samples", 21_068), ("vocabulary", 14_902))},
        "levels": {"tpm": tpm, "cpm": cpm, "actr": actr},
        "daily": daily["ecdctr"], "pooled": pooled["ecdctr"],
        "seconds": {"prepare": 84.2, "tpm": 22.1, "cpm": 41.9, "actr": 37.4, "evaluate": 12.3, "total": 231.0},
        "arms": {arm: {"daily": daily[arm], "pooled": pooled[arm], "title": title} for arm, title in zip(ARMS, ("E-CDCTR: all three levels", "E-CDCTR without the long-term level", "Ads only"), strict=True)},
        "transfer": {"arm": "ecdctr", "baseline": "target_only", "differences": differences[:3]},
        "differences": differences,
        "startup_seconds": {"spark_session": 6.1, "ranks": 14.8, "imports": 5.2},
        "loss_curves": curves,
        "calibration": {arm: [{"predicted": float(r), "observed": float(r * rng.uniform(0.85, 1.12)), "rows": 560} for r in rates] for arm in ARMS},
        "by_activity": {arm: {part: metrics(rng, gain, 900) for part in ("1", "2-4", "5-9", "10+")} for arm, gain in ARMS.items()},
        "cold_users": {arm: {part: metrics(rng, gain, 900) for part in ("cold", "warm")} for arm, gain in ARMS.items()},
        "constants": {"popularity_auc": 0.573, "constant_auc": 0.5},
    }  # fmt: skip


def changed(path: str, value) -> dict:
    tree = copy.deepcopy(example())
    *way, last = path.split(".")
    at = tree
    for key in way:
        at = at[int(key)] if isinstance(at, list) else at[key]
    at[last] = value
    return tree


@pytest.fixture(scope="module")
def report() -> Report:
    return Report.model_validate(example())


@pytest.fixture(scope="module")
def page(report) -> str:
    return render_html(report)


CONTRACT = {
    "": {"schema_version", "run_id", "config_digest", "code_version", "seed", "ranks", "dataset", "tables", "levels", "daily", "pooled", "seconds"},
    "dataset": {"name", "natural_rows", "ad_rows", "users", "items", "from", "until"},
    "tables.ad_samples": {"version", "rows", "bytes", "files"},
    "levels": {"tpm", "cpm", "actr"},
    "levels.cpm.0": {"version", "parents", "window", "rows", "steps", "seconds", "samples_per_second", "peak_rss_bytes", "parameters", "train_log_loss"},
    "daily.0": {"date", "rows", "clicks", "auc", "gauc", "log_loss", "normalized_entropy", "pcoc", "model_version"},
    "pooled": {"rows", "auc", "gauc", "log_loss", "normalized_entropy", "pcoc"},
    "seconds": {"prepare", "tpm", "cpm", "actr", "evaluate", "total"},
}  # fmt: skip


@pytest.mark.parametrize("path", CONTRACT)
def test_json_has_every_key_of_the_contract_and_each_is_required(report, path):
    at = report.tree()
    for key in filter(None, path.split(".")):
        at = at[int(key)] if isinstance(at, list) else at[key]
    assert set(at) >= CONTRACT[path]
    for key in CONTRACT[path]:
        tree = changed(f"{path}.{key}".lstrip("."), None)
        holder = tree
        for step in filter(None, path.split(".")):
            holder = holder[int(step)] if isinstance(holder, list) else holder[step]
        del holder[key]
        with pytest.raises(ValidationError):
            Report.model_validate(tree)


def test_json_round_trip(report):
    text = json.dumps(report.tree(), allow_nan=False)
    assert Report.model_validate_json(text) == report
    assert Report.model_validate(json.loads(text)) == report
    assert json.loads(text)["dataset"]["from"] == "2024-03-01"
    assert json.loads(text)["levels"]["cpm"][0]["window"] == ["2024-04-02", "2024-04-16"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("ranks", "2"), ("ranks", True), ("ranks", 0), ("seed", 7.0), ("schema_version", 2), ("dataset.users", -1),
        ("dataset.from", "01.03.2024"), ("dataset.from", 19783), ("dataset.from", dt.datetime(2024, 3, 1)),
        ("daily.0.auc", "0.7"), ("daily.0.auc", 1.2), ("daily.0.rows", 3.0), ("seconds.tpm", math.nan),
        ("transfer.differences", [{"metric": "auc", "difference": math.nan, "low": 0.0, "high": 0.0, "users": 3}]),
        ("levels.cpm", [{"version": "x"}]), ("unknown", 1), ("pooled.acu", 0.7), ("seconds", {"total": 1.0}),
    ],
)  # fmt: skip
def test_wrong_types_and_unknown_keys_are_refused(path, value):
    with pytest.raises(ValidationError):
        Report.model_validate(changed(path, value))


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
@pytest.mark.parametrize("metric", ["auc", "gauc", "normalized_entropy", "pcoc", "log_loss"])
def test_what_is_no_number_is_null(metric, value):
    found = Report.model_validate(changed(f"daily.0.{metric}", value))
    assert found.tree()["daily"][0][metric] is None


def test_a_window_may_not_end_before_it_starts():
    with pytest.raises(ValidationError, match="ends before"):
        Report.model_validate(changed("levels.tpm.0.window", [day(5), day(4)]))


class Outline(HTMLParser):
    """Tags that are open, ids, and addresses that the page would fetch."""

    VOID = frozenset({"meta", "br", "link", "img", "hr", "input"})

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.fetched, self.tags = [], [], [], set()

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.add(tag)
        self.ids += [found["id"]] if "id" in found else []
        self.fetched += [v for k, v in found.items() if k in ("src", "href", "xlink:href") and not v.startswith("#")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_loads_nothing(page):
    outline = Outline()
    outline.feed(page)
    assert not outline.open
    assert not outline.fetched
    assert len(outline.ids) == len(set(outline.ids))
    assert not outline.tags & {"script", "link", "img", "iframe", "object"}
    assert "url(http" not in page
    assert "@import" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert len(page) < 600_000


def test_the_same_report_gives_the_same_page(report, page):
    assert render_html(report) == page


def test_colours_come_from_the_page(page):
    assert not re.search(r"#0100\d\d|#0101\d\d|#0102\d\d|#0103\d\d", page)
    assert set(re.findall(r"var\(--([\w-]+)\)", page)) <= set(re.findall(r"--([\w-]+):", page))


HARM = "<script>alert(1)</script>\"'\n\x1b[31m$x_{$"


def test_names_from_data_do_no_harm():
    tree = example()
    tree["dataset"]["name"] = HARM
    tree.update(run_id=HARM, config_digest=HARM, code_version=HARM)
    tree["tables"][HARM] = tree["tables"]["vocabulary"]
    tree["levels"]["cpm"][0].update(version=HARM, arm=HARM, parents=[HARM])
    tree["levels"]["cpm"][0]["phases"][HARM] = 1.0
    tree["arms"][HARM] = {**tree["arms"]["ecdctr"], "title": HARM}
    tree["by_activity"]["ecdctr"][HARM] = tree["by_activity"]["ecdctr"]["1"]
    tree["seconds"][HARM] = tree["startup_seconds"][HARM] = 1.0
    tree["transfer"]["differences"].append({**tree["transfer"]["differences"][0], "metric": HARM})
    tree["differences"].append({**tree["differences"][0], "metric": HARM, "arm": HARM})
    found = Report.model_validate(tree)
    text = render_html(found)
    outline = Outline()
    outline.feed(text)
    assert not outline.open
    assert "script" not in outline.tags
    assert "alert(1)" in text
    assert "\x1b" not in text
    assert "\x1b" not in render_table(found)


def told(metric: str, low: float, value: float, high: float) -> Report:
    tree = example()
    tree["transfer"]["differences"] = [
        {"arm": "ecdctr", "baseline": "target_only", "metric": metric, "difference": value, "low": low, "high": high, "users": 2911, "level": 0.95}
    ]  # fmt: skip
    return Report.model_validate(tree)


@pytest.mark.parametrize(
    ("difference", "said"),
    [
        (
            ("auc", 0.006, 0.018, 0.031),
            ["content improved AUC.", "AUC rose by 1.80 points", "+0.60 to +3.10", "2,911 users"],
        ),
        (("gauc", -0.031, -0.018, -0.006), ["content lowered GAUC.", "GAUC fell by 1.80 points", "a loss"]),
        (("auc", -0.01, 0.004, 0.018), ["No difference could be told", "that could be seen is about 2.00 points"]),
        (("log_loss", -0.003, -0.002, -0.001), ["cannot answer", "Log loss fell by 0.0020 nats", "an improvement"]),
    ],
)
def test_words_are_those_of_the_interval(difference, said):
    found = told(*difference)
    for words in said:
        assert words in render_table(found)


def test_the_page_says_what_the_table_says(report, page):
    text = page.replace("&#39;", "'")
    for line in render_table(report).splitlines()[-4:]:
        assert line.removeprefix("What did transfer bring? ").strip() in text


def test_an_open_difference_is_never_called_a_gain():
    table = render_table(told("auc", -0.0001, 0.02, 0.04))
    assert "What did transfer bring? No difference could be told.\n" in table
    assert "improve" not in table
    assert "rose" not in table


@pytest.mark.parametrize(
    ("gauc", "said"),
    [
        ((0.01, 0.03), "improved AUC and GAUC."),
        ((-0.01, 0.03), "improved AUC; for GAUC no difference could be told."),
        ((-0.03, -0.01), "improved AUC but lowered GAUC."),
    ],
)
def test_the_headline_weighs_both_measures(gauc, said):
    tree = example()
    tree["transfer"]["differences"][1].update(low=gauc[0], high=gauc[1], difference=sum(gauc) / 2)
    assert f"Transfer from natural content {said}" in render_table(Report.model_validate(tree))


def test_a_report_without_extras_still_renders():
    tree = example()
    for key in (
        "arms",
        "transfer",
        "differences",
        "startup_seconds",
        "loss_curves",
        "calibration",
        "by_activity",
        "cold_users",
        "constants",
    ):
        del tree[key]
    tree["levels"] = {"tpm": [], "cpm": [], "actr": []}
    tree["daily"] = []
    found = Report.model_validate(tree)
    assert "These days cannot answer it" in render_html(found)
    assert "cannot answer" in render_table(found)


def test_a_single_day_is_drawn():
    tree = example()
    tree["daily"] = tree["daily"][:1]
    for arm in tree["arms"].values():
        arm["daily"] = arm["daily"][:1]
    tree["levels"]["actr"] = tree["levels"]["actr"][:1]
    assert "16 Apr" in render_html(Report.model_validate(tree))


def test_lineage_shows_the_main_arm_and_its_ancestors(report):
    shown = ancestry(report)
    assert {level: len(versions) for level, versions in shown.items()} == {"tpm": 4, "cpm": 2, "actr": 14}
    assert {v.arm for v in shown["cpm"]} == {"history"}


def test_the_table_of_a_run(report, tmp_path):
    lines = render_table(report, tmp_path / "report.html").splitlines()
    assert lines[0].split()[:3] == ["arm", "rows", "clicks"]
    assert [line.split()[0] for line in lines[2:5]] == list(ARMS)
    assert len({len(line) for line in lines[:5]}) == 1
    assert lines[-1] == f"report: {tmp_path / 'report.html'}"


def test_files_are_whole_readable_and_replace_their_predecessors(report, tmp_path):
    folder = tmp_path / "runs" / "quickstart"
    for _ in range(2):
        digests = write_report(report, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.json"]
    assert Report.model_validate_json((folder / "report.json").read_text()) == report
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in folder.iterdir())
    assert digests == {path.name: digest_file(path) for path in folder.iterdir()}


def test_a_full_disk_leaves_the_earlier_report(report, tmp_path, monkeypatch):
    (tmp_path / "report.json").write_text("earlier")
    (tmp_path / "report.html").write_text("earlier")
    before = (tmp_path / "report.json").read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_report(report, tmp_path)
    assert (tmp_path / "report.json").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]


def test_quantities_in_words():
    assert [duration(s) for s in (0.04, 59.94, 61, 3700)] == ["0.0 s", "59.9 s", "1 min 01 s", "1 h 01 min"]
    assert [size(b) for b in (0, 1023, 1024, 5 << 30)] == ["0 B", "1023 B", "1.0 KiB", "5.0 GiB"]
