"""The plots of a report, each a function from the report to SVG."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Protocol

from markupsafe import Markup
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ecdctr.report.canvas import ACTR, ARMS, BAD, GOOD, INK, MUTED, OPEN, PANEL, RULE, canvas, day_axis, day_number
from ecdctr.report.schema import CalibrationPoint, Difference, Metrics, Policies, Report, Version
from ecdctr.report.wording import NAMES, printable, unit_of, verdict_of


class Dated(Protocol):
    """Metrics of one day."""

    @property
    def date(self) -> dt.date:
        """The day."""


def arms_of(report: Report) -> list[str]:
    """Arms in the order of their colours: the main one first, what it is compared with second."""
    names = list(report.arms)
    if report.transfer:
        first = [name for name in (report.transfer.arm, report.transfer.baseline) if name in report.arms]
        names = [*first, *(name for name in names if name not in first)]
    return names[: len(ARMS)]


def daily(report: Report, metric: str) -> Markup:
    """A metric per walked day, one line for each arm; a gap where it is null."""
    return days_of_arms({name: report.arms[name].daily for name in arms_of(report)} or {"model": report.daily}, metric)


def days_of_arms(series: Mapping[str, Sequence[Dated]], metric: str, name: str = "daily", width: float = 5.4) -> Markup:
    """One line for each arm, in the order of their colours; `name` tells plots of one page apart."""
    if not any(series.values()):
        return Markup()
    with canvas(f"{name}-{metric}", f"{NAMES[metric]} per day, by arm", width, 2.35) as drawn:
        axes = drawn.axes
        for (_, days), color in reversed(list(zip(series.items(), ARMS, strict=False))):
            values = [_value(day, metric) for day in days]
            axes.plot(
                [day_number(day.date) for day in days],
                values,
                color=color,
                marker="o",
                markersize=3.4,
                mec=PANEL,
                mew=0.7,
            )
        if metric == "pcoc":
            axes.axhline(1.0, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        dates = [day.date for days in series.values() for day in days]
        day_axis(axes, min(dates), max(dates), 6)
        axes.yaxis.set_major_locator(MaxNLocator(5))
    return drawn.svg


def differences(
    shown: Sequence[Difference], labels: Sequence[str] = (), name: str = "differences", width: float = 10.8
) -> Markup:
    """Differences in points with their intervals; the band around zero is what chance alone may give.

    Args:
        shown: From top to bottom.
        labels: Of each; by default its metric.
        name: Tells plots of one page apart.
        width: Inches at 72 points.
    """
    with canvas(name, "Differences with their intervals", width, 0.6 + 0.42 * len(shown)) as drawn:
        axes = drawn.axes
        for row, difference in enumerate(shown):
            color = {"better": GOOD, "worse": BAD, "open": OPEN}[verdict_of(difference)]
            low, high, value = (100 * v for v in (difference.low, difference.high, difference.difference))
            axes.plot([low, high], [row, row], color=color, linewidth=3.2, solid_capstyle="round")
            axes.plot([value], [row], color=color, marker="o", markersize=8.5, mec=PANEL, mew=1.5)
        axes.axvline(0.0, color=INK, linewidth=1.0, zorder=1)
        axes.set_yticks(range(len(shown)), labels or [NAMES[d.metric] for d in shown], color=INK)
        axes.set_ylim(len(shown) - 0.45, -0.55)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(7))
        axes.set_xlabel(f"difference in{unit_of('auc')}")
        axes.margins(x=0.08)
    return drawn.svg


def calibration(report: Report) -> Markup:
    """Observed click rate against the predicted one, in bins of equally many rows."""
    return calibration_of_arms({name: report.calibration.get(name, []) for name in arms_of(report)})


def calibration_of_arms(found: Mapping[str, Sequence[CalibrationPoint]]) -> Markup:
    """One line for each arm, in the order of their colours."""
    with canvas("calibration", "Observed against predicted click rate, by arm", 3.5, 2.9) as drawn:
        axes = drawn.axes
        ends = [0.0]
        for (_, points), color in reversed(list(zip(found.items(), ARMS, strict=False))):
            predicted, observed = [100 * p.predicted for p in points], [100 * p.observed for p in points]
            axes.plot(predicted, observed, color=color, marker="o", markersize=4.2, mec=PANEL, mew=0.7)
            ends += [*predicted, *observed]
        end = 1.06 * max(ends)
        axes.plot([0, end], [0, end], color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        axes.set_xlim(0, end)
        axes.set_ylim(0, end)
        percent = FuncFormatter(lambda value, _: f"{value:g} %")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5))
            axis.set_major_formatter(percent)
        axes.set_xlabel("predicted click rate")
        axes.set_ylabel("observed click rate")
    return drawn.svg


def losses(report: Report, level: str, groups: Mapping[str, Sequence[Version]]) -> Markup:
    """Training loss of a level over its steps, versions one after the other."""
    with canvas(f"loss-{level}", f"Training log loss of {level}", 3.5, 2.2) as drawn:
        axes = drawn.axes
        for (_, versions), color in reversed(list(zip(groups.items(), ARMS, strict=False))):
            at, steps, values, starts = 0, list[int](), list[float](), list[int]()
            for version in versions:
                starts.append(at)
                known = [(step, loss) for step, loss in report.loss_curves.get(version.version, []) if loss is not None]
                steps += [at + step for step, _ in known]
                values += [loss for _, loss in known]
                at += version.steps
            axes.plot(steps, values, color=color, linewidth=1.3)
            for start in starts[1:] if len(starts) <= 8 else []:
                axes.axvline(start, color=RULE, linewidth=1.0, zorder=0)
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5))
    return drawn.svg


def by_part(report: Report, parts: dict[str, dict[str, Metrics]], name: str, metric: str = "auc") -> Markup:
    """A metric by part of the rows, one mark for each arm."""
    return parts_of_arms({arm: parts.get(arm, {}) for arm in arms_of(report)}, name, metric)


def parts_of_arms(parts: Mapping[str, Mapping[str, Metrics]], name: str, metric: str = "auc") -> Markup:
    """One mark for each arm and part, arms in the order of their colours."""
    shown = list(zip(parts, ARMS, strict=False))
    labels = list(dict.fromkeys(part for arm, _ in shown for part in parts[arm]))
    with canvas(f"part-{name}", f"{NAMES[metric]} by {name}", 3.5, 2.9) as drawn:
        axes = drawn.axes
        for index, (arm, color) in enumerate(shown):
            shift = (index - (len(shown) - 1) / 2) * 0.16
            values = [
                (at, getattr(parts[arm][label], metric)) for at, label in enumerate(labels) if label in parts[arm]
            ]
            known = [(at, value) for at, value in values if value is not None]
            axes.vlines(
                [at + shift for at, _ in known], 0.5, [v for _, v in known], color=color, linewidth=1.6, alpha=0.55
            )
            axes.plot(
                [at + shift for at, _ in known],
                [v for _, v in known],
                "o",
                color=color,
                markersize=6,
                mec=PANEL,
                mew=0.7,
            )
        axes.axhline(0.5, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        axes.set_xticks(range(len(labels)), [printable(label) for label in labels], color=INK)
        axes.set_xlim(-0.6, len(labels) - 0.4)
        axes.grid(visible=False, axis="x")
        axes.set_ylabel(NAMES[metric])
        axes.yaxis.set_major_locator(MaxNLocator(6))
    return drawn.svg


def policies(chosen: Policies, name: str) -> Markup:
    """How often each field and layer was taken fine-tuned, by how many ads a user saw on the day."""
    parts = chosen.by_activity
    with canvas(name, "Share of rows sent the tuned way", 5.4, 0.7 + 0.24 * len(chosen.decisions)) as drawn:
        axes = drawn.axes
        for column, shares in enumerate(parts.values()):
            for row, share in enumerate(shares.tuned):
                axes.add_patch(
                    Rectangle((column - 0.48, row - 0.46), 0.96, 0.92, facecolor=ACTR, edgecolor="none", alpha=share)
                )
                axes.text(column, row, f"{100 * share:.0f} %", color=INK, fontsize=7.5, ha="center", va="center")
        axes.set_xticks(range(len(parts)), [printable(part) for part in parts], color=INK)
        axes.set_yticks(range(len(chosen.decisions)), [printable(d) for d in chosen.decisions], color=INK, fontsize=8)
        axes.set_xlim(-0.5, max(len(parts), 1) - 0.5)
        axes.set_ylim(len(chosen.decisions) - 0.5, -0.5)
        axes.grid(visible=False)
        axes.set_xlabel("ads that a user saw on the day")
    return drawn.svg


def _value(day: Dated, metric: str) -> float:
    value = getattr(day, metric)
    return float("nan") if value is None else float(value)
