"""`docs/results.md` from stored comparisons: `python -m ecdctr.report.results [runs/NAME/compare.json …]`.

Each comparison that is named is stored as `docs/results/NAME.json`, without what the page does not show; then the page is
written anew from all that are stored, so that no figure in it was typed by hand.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from ecdctr.exceptions import InputError
from ecdctr.report.comparison import ComparedArm, Comparison, Cost
from ecdctr.report.comparison_words import baselines, between, cell, headline, questions, sentence, tuning_sentence
from ecdctr.report.wording import DASH, NAMES, count, duration, number, printable, signed, span
from ecdctr.report.write import as_json, write_files

HEAD = """# Results

This page is written by `make results` from the comparisons in `docs/results/`, each the summary of a `compare.json` that
`ecdctr compare` wrote. Figures are means over seeds on days that the models had not seen. Differences are in points
(hundredths of AUC or GAUC) with 95 % intervals from resampling users, the same ones for all arms and seeds; * marks those
whose whole interval lies on one side of zero, and nothing else is called a gain. How each number is made:
[metrics.md](metrics.md), [compare.md](compare.md).
"""
METRICS = ("auc", "gauc", "log_loss", "normalized_entropy", "pcoc")
PARTS = (("cold_users", "cold", "users new to ads"), ("cold_ads", "cold", "new ads"), ("returning_users", "returning", "returning users"))  # fmt: skip


def summarized(comparison: Comparison) -> Comparison:
    """A comparison without days, curves, calibration and activity."""
    arms = {
        name: arm.model_copy(
            update={
                "daily": [], "calibration": [], "by_activity": {},
                "forgetting": arm.forgetting.model_copy(update={"curve": []}),
            }
        )
        for name, arm in comparison.arms.items()
    }  # fmt: skip
    return comparison.model_copy(update={"arms": arms})


def render_results(comparisons: Sequence[Comparison]) -> str:
    """The page."""
    parts = [HEAD]
    if not comparisons:
        parts.append("\nNo comparison is stored yet.\n")
    for comparison in comparisons:
        parts.append("\n" + "\n".join(_section(comparison)) + "\n")
    return "".join(parts)


def _section(comparison: Comparison) -> Iterator[str]:
    first = next(iter(comparison.arms.values())).mean
    data = comparison.dataset
    yield f"## {printable(data.name)}"
    yield ""
    yield f"{printable(comparison.description) or 'No description'}. {count(data.natural_rows)} natural impressions, "
    yield f"{count(data.ad_rows)} of ads; ad days {span(*comparison.window)} walked: {count(first.rows)} impressions, "
    yield f"{count(first.clicks)} clicks. Seeds {', '.join(map(str, comparison.seeds))}; code {comparison.code_version}, "
    yield f"configuration `{comparison.config_digest[:12]}`; {duration(comparison.seconds['total'])} in the call that ended it."
    yield ""
    if comparison.command:
        yield f"    {printable_command(comparison.command)}"
        yield ""
    if tuning_sentence(comparison):
        yield tuning_sentence(comparison)
        yield ""
    yield f"**{headline(comparison)}**"
    yield ""
    against = [(baseline, metric) for baseline in baselines(comparison) for metric in ("auc", "gauc")]
    yield from _table(
        ["arm", *(NAMES[metric] for metric in METRICS), *(f"{NAMES[m]} − `{baseline}`" for baseline, m in against)],
        [
            [
                f"`{name}`", *(number(getattr(arm.mean, metric)) for metric in METRICS),
                *(cell(between(comparison, name, baseline, metric)) for baseline, metric in against),
            ]
            for name, arm in comparison.arms.items()
        ],
    )  # fmt: skip
    told = questions(comparison)
    if told:
        yield "What each part is worth, and what the control gains:"
        yield ""
        yield from (f"- {sentence(comparison, difference)}" for difference in told)
        yield ""
    yield from _table(
        ["arm", *(f"AUC, {title} (clicks)" for _, _, title in PARTS), "backward transfer, AUC points"],
        [
            [f"`{name}`", *(_part(arm, attribute, part) for attribute, part, _ in PARTS), _forgotten(arm)]
            for name, arm in comparison.arms.items()
        ],
    )
    yield "Cost per day: rows that training reads, by level (TPM and CPM spread over their clocks), against training all of it "
    yield "anew each day; seconds of training of an average day, and of all versions that the walk rests on. What training CPM and the ad "
    yield "model anew each day takes and brings is measured where the arm `ecdctr_retrained` is among them."
    yield ""
    yield from _table(
        [
            "arm",
            "a daily update",
            "A-CTR",
            "CPM",
            "TPM",
            "together",
            "anew each day",
            "seconds a day",
            "training of the walk",
        ],
        [[f"`{name}`", *_cost(arm.cost), duration(arm.train_seconds)] for name, arm in comparison.arms.items()],
    )


def printable_command(command: str) -> str:
    """A command without control characters, whole."""
    return "".join(letter if letter.isprintable() else "·" for letter in command)


def _part(arm: ComparedArm, attribute: str, part: str) -> str:
    metrics = getattr(arm, attribute).get(part)
    return f"{number(metrics.auc)} ({count(metrics.clicks)})" if metrics else DASH


def _forgotten(arm: ComparedArm) -> str:
    found = arm.forgetting
    if found.backward_transfer is None:
        return DASH
    text = signed("auc", found.backward_transfer)
    if found.low is None or found.high is None:
        return text
    return f"{text} [{signed('auc', found.low)}, {signed('auc', found.high)}]"


def _cost(cost: Cost) -> list[str]:
    levels = [cost.per_day.get(level) for level in ("actr", "cpm", "tpm")]
    together = sum(effort.rows for effort in levels if effort)
    anew = sum(effort.rows for effort in cost.retrained_daily.values())
    return [
        count(round(cost.update.rows)) if cost.update else DASH,
        *(count(round(effort.rows)) if effort else DASH for effort in levels),
        count(round(together)),
        count(round(anew)),
        f"{sum(effort.seconds or 0.0 for effort in levels if effort):.1f}",
    ]


def _table(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|---" + "|---:" * (len(head) - 1) + "|"
    yield from ("| " + " | ".join(row) + " |" for row in rows)
    yield ""


def load_comparison(path: Path) -> Comparison:
    """A stored comparison.

    Raises:
        InputError: It cannot be read.
    """
    try:
        return Comparison.model_validate_json(path.read_text())
    except (OSError, ValidationError) as error:
        raise InputError(f"{path} is no comparison: {error}", hint="write it with ecdctr compare") from error


def write_results(docs: Path, named: Sequence[Path]) -> list[str]:
    """Store the named comparisons and write the page from all that are stored.

    Args:
        docs: The folder of the documentation.
        named: `compare.json` files to store; those stored before stay.

    Returns:
        Names of all stored comparisons.
    """
    store = docs / "results"
    for path in named:
        comparison = summarized(load_comparison(path))
        write_files(store, {f"{comparison.dataset.name}.json": as_json(comparison.tree())})
    comparisons = [load_comparison(path) for path in sorted(store.glob("*.json"))]
    write_files(docs, {"results.md": render_results(comparisons)})
    return [comparison.dataset.name for comparison in comparisons]


if __name__ == "__main__":
    sys.stdout.write(
        "docs/results.md: " + (", ".join(write_results(Path("docs"), [Path(a) for a in sys.argv[1:]])) or "none") + "\n"
    )
