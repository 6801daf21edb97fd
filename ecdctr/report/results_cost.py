"""What asynchronous levels save against training everything anew each day, and what is lost by it."""

from collections.abc import Iterator, Sequence

from ecdctr.report.comparison import ComparedArm, Comparison, Effort
from ecdctr.report.comparison_words import between, cell
from ecdctr.report.results_page import table
from ecdctr.report.wording import DASH, DECIDING, NAMES, count, number, printable

METHOD, ANEW = "ecdctr", "ecdctr_retrained"
LEVELS = ("actr", "cpm", "tpm")


def cost_section(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """Lines for the data sets that have the method; none where none has."""
    known = [comparison for comparison in comparisons if METHOD in comparison.arms]
    if not known:
        return
    yield "## What it costs"
    yield ""
    yield f"Rows and seconds of training of an average day: A-CTR by walked day, TPM and CPM spread over their clocks. `{ANEW}`"
    yield "trains CPM and A-CTR anew each day on their whole windows (TPM keeps its clock): measured, where it was walked. All three"
    yield "levels anew: rows counted, not trained. Kept: the metric of the daily updates, what it is above retraining in brackets."
    yield ""
    yield from table(
        [
            "data set", "a daily update, rows", "A-CTR + CPM + TPM, rows a day", "seconds a day",
            "retrained daily, rows", "seconds", "all three anew, rows", *(f"{NAMES[metric]} kept" for metric in DECIDING),
        ],
        [_row(comparison) for comparison in known],
    )  # fmt: skip


def _row(comparison: Comparison) -> list[str]:
    arm, anew = comparison.arms[METHOD], comparison.arms.get(ANEW)
    rows, seconds = per_day(arm)
    retrained = [DASH, DASH]
    if anew is not None:
        other_rows, other_seconds = per_day(anew)
        retrained = [
            _times(count(round(other_rows)), other_rows, rows),
            _times(f"{other_seconds:.1f}", other_seconds, seconds),
        ]
    whole = sum(effort.rows for effort in arm.cost.retrained_daily.values())
    kept = []
    for metric in DECIDING:
        difference = between(comparison, METHOD, ANEW, metric)
        kept.append(f"{number(getattr(arm.mean, metric))}{f' ({cell(difference)})' if difference else ''}")
    return [
        printable(comparison.dataset.name),
        count(round(arm.cost.update.rows)) if arm.cost.update else DASH,
        f"{count(round(rows))} ({' + '.join(count(round(effort.rows)) for effort in _levels(arm))})",
        f"{seconds:.1f}",
        *retrained,
        _times(count(round(whole)), whole, rows),
        *kept,
    ]


def per_day(arm: ComparedArm) -> tuple[float, float]:
    """Rows and seconds of all levels."""
    found = _levels(arm)
    return sum(effort.rows for effort in found), sum(effort.seconds or 0.0 for effort in found)


def _levels(arm: ComparedArm) -> list[Effort]:
    return [arm.cost.per_day[level] for level in LEVELS if level in arm.cost.per_day]


def _times(text: str, value: float, base: float) -> str:
    return f"{text} ({value / base:.1f}×)" if base else text
