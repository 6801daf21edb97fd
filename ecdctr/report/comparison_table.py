"""The table that ends a comparison."""

from pathlib import Path

from ecdctr.report.answers import answered
from ecdctr.report.comparison import Comparison
from ecdctr.report.comparison_words import baselines, between, cell, headline, sentence
from ecdctr.report.table import aligned
from ecdctr.report.wording import DECIDING, NAMES, count, duration, number, printable, verdict_of

METRICS = ("auc", "gauc", "log_loss", "pcoc")


def render_comparison_table(comparison: Comparison, path: Path | None = None) -> str:
    """Arms by mean metrics, differences to the baselines with intervals, and where the page lies.

    Args:
        comparison: What to say.
        path: Of the page; left out where there is none.
    """
    against = [(baseline, metric) for baseline in baselines(comparison) for metric in ("auc", "gauc")]
    rows = [
        [
            "arm",
            *(NAMES[metric] for metric in METRICS),
            *(f"{NAMES[m]} − {baseline}" for baseline, m in against),
            "training",
        ]
    ]
    for name, arm in comparison.arms.items():
        figures = [number(getattr(arm.mean, metric)) for metric in METRICS]
        told = [cell(between(comparison, name, baseline, metric)) for baseline, metric in against]
        rows.append([printable(name), *figures, *told, duration(arm.train_seconds)])
    first = next(iter(comparison.arms.values())).mean
    asked = [
        difference
        for _, told in answered(comparison)
        for question in told
        for metric in DECIDING
        if (difference := between(comparison, question.arm, question.baseline, metric)) is not None
    ]
    decided = [difference for difference in asked if verdict_of(difference) != "open"]
    rest = (
        [f"  of {len(asked)} further answers, {len(asked) - len(decided)} could not be told"]
        if asked != decided
        else []
    )
    lines = [
        *aligned(rows),
        "",
        f"{count(first.rows)} impressions, {count(first.clicks)} clicks, {len(comparison.seeds)} seeds; differences in "
        "points (hundredths) with 95 % intervals over users, * beyond chance",
        headline(comparison),
        *(f"  {sentence(comparison, difference)}" for difference in decided),
        *rest,
    ]
    if path is not None:
        lines += ["", f"report: {path}"]
    return "\n".join(lines)
