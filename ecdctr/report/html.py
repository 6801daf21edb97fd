"""The self-contained page: one file, no script, nothing loaded from elsewhere."""

from functools import cache
from string import ascii_lowercase
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ecdctr.report import plots, quality, wording
from ecdctr.report.lineage import ancestry, lineage
from ecdctr.report.schema import LEVELS, Difference, Report, Version

STAGE_TITLES = {
    "prepare": "Prepare tables",
    "tpm": "Train TPM",
    "cpm": "Train CPM",
    "actr": "Train A-CTR",
    "evaluate": "Evaluate",
}
STEP_PHASES = ("input", "lookup", "forward", "backward", "exchange", "update")
LEVEL_TITLES = {"tpm": "TPM", "cpm": "CPM", "actr": "A-CTR"}


def render_html(report: Report) -> str:
    """The page of a report.

    Every name from data is escaped; colours follow the reader's light or dark setting, print is light.
    """
    return environment().get_template("report.html.j2").render(_view(report))


@cache
def environment() -> Environment:
    """Where the templates of all pages lie; they escape whatever they are given."""
    found = Environment(
        loader=PackageLoader("ecdctr.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in (
        wording.number, wording.count, wording.size, wording.duration, wording.span, wording.signed,
        wording.printable, wording.verdict_of, wording.unit_of, quality.check_title, quality.amount,
    ):  # fmt: skip
        found.filters[function.__name__] = function
    return found


def _view(report: Report) -> dict[str, Any]:
    arms = plots.arms_of(report)
    shown = [d for d in (report.transfer.differences if report.transfer else []) if d.metric in ("auc", "gauc")]
    return {
        "report": report,
        "answer": wording.answer(report),
        "arms": arms,
        "titles": {name: wording.printable(arm.title or name) for name, arm in report.arms.items()},
        "names": wording.NAMES,
        "level_titles": LEVEL_TITLES,
        "days": [report.daily[0].date, report.daily[-1].date] if report.daily else [],
        "cards": [_card(report, metric) for metric in ("auc", "gauc", "log_loss", "pcoc")],
        "differences_plot": plots.differences(shown) if shown else Markup(),
        "lineage_plot": lineage(report),
        "lineage_versions": ancestry(report),
        "daily_plots": [(metric, plots.daily(report, metric)) for metric in ("auc", "gauc", "log_loss", "pcoc")],
        "calibration_plot": plots.calibration(report) if report.calibration else Markup(),
        "activity_plot": _parts(report, "activity"),
        "cold_plot": _parts(report, "cold users"),
        "policy_plots": _policies(report),
        "loss_plots": _losses(report),
        "stages": _stages(report.seconds),
        "startup": _stages(report.startup_seconds),
        "phases": _phases(report),
        "others": _others(report),
        "quality_plots": quality.quality_plots(report),
        "out_of_bounds": quality.out_of_bounds(report),
        "quality_rows": quality.SHOWN,
    }


def _card(report: Report, metric: str) -> dict[str, Any]:
    base = report.arms.get(report.transfer.baseline) if report.transfer else None
    difference = next((d for d in report.transfer.differences if d.metric == metric), None) if report.transfer else None
    return {
        "metric": metric,
        "value": getattr(report.pooled, metric),
        "baseline": getattr(base.pooled, metric) if base else None,
        "difference": difference,
    }


def _parts(report: Report, name: str) -> Markup:
    parts = report.by_activity if name == "activity" else report.cold_users
    return plots.by_part(report, parts, name.replace(" ", "-")) if parts else Markup()


def _policies(report: Report) -> list[tuple[str, Markup]]:
    shown = [(arm, chosen) for arm, chosen in report.policies.items() if chosen.by_activity and chosen.decisions]
    return [
        (arm, plots.policies(chosen, f"policies-{letter}"))
        for letter, (arm, chosen) in zip(ascii_lowercase, shown, strict=False)
    ]


def _losses(report: Report) -> list[tuple[str, Markup]]:
    found = []
    for level in LEVELS:
        versions: list[Version] = [v for v in getattr(report.levels, level) if report.loss_curves.get(v.version)]
        names = plots.arms_of(report) if level == "actr" else list(dict.fromkeys(v.arm for v in versions))[:1]
        groups = {name: [v for v in versions if v.arm in ("", name)] for name in names}
        if versions:
            found.append((level, plots.losses(report, level, groups or {"": versions})))
    return found


def _stages(seconds: dict[str, float]) -> list[tuple[str, float, float]]:
    """Name, seconds and share of the longest, of each stage but the total."""
    stages = {name: value for name, value in seconds.items() if name != "total"}
    longest = max(stages.values(), default=0.0) or 1.0
    return [(STAGE_TITLES.get(name, name.replace("_", " ")), value, value / longest) for name, value in stages.items()]


def _phases(report: Report) -> list[tuple[str, list[tuple[str, float]]]]:
    """For each level, the share of its steps' time by phase."""
    sums: dict[str, dict[str, float]] = {}
    for level in LEVELS:
        total: dict[str, float] = {}
        for version in getattr(report.levels, level):
            for phase, seconds in version.phases.items():
                total[phase] = total.get(phase, 0.0) + seconds
        if sum(total.values()) > 0.0:
            sums[level] = total
    # The same phases in the same order for all levels, since they share a legend; versions of earlier releases may lack some.
    known = dict.fromkeys(phase for total in sums.values() for phase in total)
    names = sorted(known, key=lambda phase: STEP_PHASES.index(phase) if phase in STEP_PHASES else len(STEP_PHASES))
    return [
        (level, [(phase, total.get(phase, 0.0) / sum(total.values())) for phase in names])
        for level, total in sums.items()
    ]


def _others(report: Report) -> list[Difference]:
    main = report.transfer.arm if report.transfer else ""
    return [d for d in report.differences if d.arm != main]
