"""The short table that ends a run."""

from pathlib import Path

from ecdctr.report.schema import Metrics, Report
from ecdctr.report.wording import NAMES, answer, count, number, printable

COLUMNS = ("auc", "gauc", "log_loss", "normalized_entropy", "pcoc")


def render_table(report: Report, path: Path | None = None) -> str:
    """Arms by pooled metrics, what transfer brought, and where the page lies.

    Args:
        report: What to say.
        path: Of the page; left out where there is none.
    """
    arms = {name: arm.pooled for name, arm in report.arms.items()} or {"model": report.pooled}
    rows = [["arm", "rows", "clicks", *(NAMES[name] for name in COLUMNS)]]
    rows += [_row(name, metrics) for name, metrics in arms.items()]
    lines = aligned(rows)
    found = answer(report)
    lines += ["", f"What did transfer bring? {found.headline}", *(f"  {part.sentence}" for part in found.findings)]
    if path is not None:
        lines += ["", f"report: {path}"]
    return "\n".join(lines)


def _row(name: str, metrics: Metrics) -> list[str]:
    return [
        printable(name),
        count(metrics.rows),
        count(metrics.clicks),
        *(number(getattr(metrics, column)) for column in COLUMNS),
    ]


def aligned(rows: list[list[str]]) -> list[str]:
    """Lines of a table with a rule below its head: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_line(row, widths) for row in rows]
    return [lines[0], "  ".join("─" * width for width in widths), *lines[1:]]


def _line(row: list[str], widths: list[int]) -> str:
    first, *rest = row
    return "  ".join(
        [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))]
    )
