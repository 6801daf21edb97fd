"""One data set on the summary page: how the method stands, and the main table."""

from collections.abc import Iterator

from ecdctr.report.answers import aim_rows, best_arms, chance_sentence, users_sentence
from ecdctr.report.comparison import BASELINES, Comparison
from ecdctr.report.comparison_words import between, cell, headline, tuning_sentence
from ecdctr.report.questions import MAIN
from ecdctr.report.results_page import facts, table
from ecdctr.report.wording import DECIDING, NAMES, number, printable

COLUMNS = ("auc", "gauc", "log_loss", "expected_calibration_error")


def log_section(comparison: Comparison) -> Iterator[str]:
    """Its lines."""
    name = printable(comparison.dataset.name)
    yield f"## {name}"
    yield ""
    yield f"{facts(comparison)} Every table of it: [{name}](results/{name}.md)."
    yield ""
    said = (
        headline(comparison),
        _best(comparison),
        users_sentence(comparison),
        tuning_sentence(comparison),
        chance_sentence(comparison),
    )
    yield " ".join(filter(None, said))
    yield ""
    rows = aim_rows(comparison)
    if rows:
        yield from table(rows[0], rows[1:])
    shown = [arm for arm in MAIN if arm in comparison.arms] or list(comparison.arms)
    against = [
        (baseline, metric)
        for baseline in reversed(BASELINES)
        if baseline in comparison.arms
        for metric in (*DECIDING, "log_loss")
    ]
    yield from table(
        ["arm", *(NAMES[metric] for metric in COLUMNS), *(f"{NAMES[metric]} − `{name}`" for name, metric in against)],
        [
            [
                f"`{arm}`", *(number(getattr(comparison.arms[arm].mean, metric)) for metric in COLUMNS),
                *(cell(between(comparison, arm, baseline, metric)) for baseline, metric in against),
            ]
            for arm in shown
        ],
    )  # fmt: skip


def _best(comparison: Comparison) -> str:
    """Which arms are highest, and by how much above the strongest simple baseline."""
    found = []
    for metric, arm, value in best_arms(comparison):
        difference = between(comparison, arm, BASELINES[-1], metric)
        above = f", {cell(difference)} against `{BASELINES[-1]}`" if difference else ""
        found.append(f"Highest {NAMES[metric]}: `{printable(arm)}` ({value}{above}).")
    return " ".join(found)
