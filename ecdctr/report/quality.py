"""The checks of the prepared days: their figures over days, and those that were out of bounds."""

from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ecdctr.report.canvas import ARMS, BAD, MUTED, PANEL, canvas, day_axis, day_number
from ecdctr.report.schema import QualityCheck, QualityDay, Report
from ecdctr.report.wording import printable

TITLES = {
    "volume": "Rows", "click_rate": "Click rate", "null_rate": "Missing values", "new_ids": "Rows with a new id",
}  # fmt: skip
DOMAINS = {"natural": "natural content", "ad": "ads"}
LINES = 6
SHOWN = 60


@dataclass(frozen=True)
class QualityPlot:
    """The plot of one check of one log.

    Attributes:
        title: What is drawn.
        svg: The plot.
        lines: What its lines stand for, in the order of their colours; empty where there is one alone.
        left_out: How many lines there would be beside these.
    """

    title: str
    svg: Markup
    lines: list[str]
    left_out: int


def out_of_bounds(report: Report) -> list[tuple[QualityCheck, QualityDay]]:
    """Days that a check found out of bounds, newest first."""
    found = [(check, day) for check in report.quality for day in check.days if is_out(day)]
    return sorted(found, key=lambda pair: pair[1].date, reverse=True)


def is_out(day: QualityDay) -> bool:
    """Whether a policy was applied to the day."""
    return day.outcome in ("warn", "quarantine", "fail")


def check_title(check: QualityCheck) -> str:
    """A check in words."""
    subject = f" of {printable(check.subject)}" if check.subject else ""
    return f"{TITLES.get(check.check, printable(check.check))}{subject}, {DOMAINS[check.domain]}"


def amount(check: QualityCheck, value: float | None) -> str:
    """A figure: a count of rows, or a share in percent; empty where there is none."""
    if value is None:
        return ""
    return f"{value:,.0f}" if check.check == "volume" else f"{100 * value:.3g} %"


def quality_plots(report: Report) -> list[QualityPlot]:
    """One plot for each check of each log; of many columns those with most to say."""
    groups: dict[tuple[str, str], list[QualityCheck]] = {}
    for check in report.quality:
        if check.days:
            groups.setdefault((check.domain, check.check), []).append(check)
    return [_plot(checks) for checks in groups.values()]


def _plot(checks: list[QualityCheck]) -> QualityPlot:
    ranked = sorted(checks, key=_interest, reverse=True)[:LINES]
    first = ranked[0]
    title = check_title(first.model_copy(update={"subject": ""}))
    with canvas(f"quality-{first.domain}-{first.check.replace('_', '-')}", f"{title}, per day", 5.4, 2.1) as drawn:
        axes = drawn.axes
        scale = 1.0 if first.check == "volume" else 100.0
        for check, color in reversed(list(zip(ranked, ARMS, strict=False))):
            at = [day_number(day.date) for day in check.days]
            values = [scale * day.value for day in check.days]
            axes.plot(at, values, color=color, linewidth=1.5, marker="o" if len(at) == 1 else "")
            if len(ranked) == 1:
                usual = [float("nan") if day.expected is None else scale * day.expected for day in check.days]
                axes.plot(at, usual, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
            out = [(x, y) for x, y, day in zip(at, values, check.days, strict=True) if is_out(day)]
            axes.plot([x for x, _ in out], [y for _, y in out], "o", color=BAD, markersize=6.5, mec=PANEL, mew=0.8)
        dates = [day.date for check in ranked for day in check.days]
        day_axis(axes, min(dates), max(dates), 6)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        unit = "" if first.check == "volume" else " %"
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}{unit}"))
    lines = [printable(check.subject) for check in ranked] if len(ranked) > 1 else []
    return QualityPlot(title, drawn.svg, lines, len(checks) - len(ranked))


def _interest(check: QualityCheck) -> tuple[int, float]:
    """Days out of bounds first, then how far the figure moves."""
    values = [day.value for day in check.days]
    return sum(is_out(day) for day in check.days), max(values) - min(values)
