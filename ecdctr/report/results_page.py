"""The page of one stored comparison, `docs/results/NAME.md`: every table of it, the long list of pairs behind a fold."""

from collections.abc import Iterator

from ecdctr.report.comparison import ComparedArm, Comparison, Cost
from ecdctr.report.comparison_words import (
    baselines,
    between,
    cell,
    headline,
    questions,
    sentence,
    settings_text,
    tuned_arms,
    tuning_sentence,
)
from ecdctr.report.wording import DASH, NAMES, count, duration, number, printable, signed, span

METRICS = ("auc", "gauc", "log_loss", "normalized_entropy", "pcoc", "expected_calibration_error")
PARTS = (("cold_users", "cold", "users new to ads"), ("cold_ads", "cold", "new ads"), ("returning_users", "returning", "returning users"))  # fmt: skip


def render_page(comparison: Comparison) -> str:
    """The page."""
    return "\n".join(_lines(comparison)).rstrip("\n") + "\n"


def _lines(comparison: Comparison) -> Iterator[str]:
    yield f"# {printable(comparison.dataset.name)}"
    yield ""
    yield "Written by `make results`; the summary over all data sets is [results.md](../results.md)."
    yield ""
    yield facts(comparison)
    yield f"Code {comparison.code_version}, configuration `{comparison.config_digest[:12]}`; "
    yield f"{duration(comparison.seconds['total'])} in the call that ended it."
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
    yield from table(
        ["arm", *(NAMES[metric] for metric in METRICS), *(f"{NAMES[m]} − `{baseline}`" for baseline, m in against)],
        [
            [
                f"`{name}`", *(number(getattr(arm.mean, metric)) for metric in METRICS),
                *(cell(between(comparison, name, baseline, metric)) for baseline, metric in against),
            ]
            for name, arm in comparison.arms.items()
        ],
    )  # fmt: skip
    yield from _tuning(comparison)
    yield "## Parts of the rows, and forgetting"
    yield ""
    yield from table(
        ["arm", *(f"AUC, {title} (clicks)" for _, _, title in PARTS), "backward transfer, AUC points"],
        [
            [f"`{name}`", *(_part(arm, attribute, part) for attribute, part, _ in PARTS), _forgotten(arm)]
            for name, arm in comparison.arms.items()
        ],
    )
    yield "## Cost"
    yield ""
    yield "Per day: rows that training reads, by level (TPM and CPM spread over their clocks), against training all of it "
    yield "anew each day; seconds of training of an average day, and of all versions that the walk rests on. What training CPM and the ad "
    yield "model anew each day takes and brings is measured where the arm `ecdctr_retrained` is among them."
    yield ""
    yield from table(
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
    told = questions(comparison)
    if told:
        yield "## Pair by pair"
        yield ""
        yield f"<details><summary>{len(told)} differences in words</summary>"
        yield ""
        yield from (f"- {sentence(comparison, difference)}" for difference in told)
        yield ""
        yield "</details>"
        yield ""


def facts(comparison: Comparison) -> str:
    """What was walked, in a few sentences."""
    first = next(iter(comparison.arms.values())).mean
    data = comparison.dataset
    return (
        f"{printable(comparison.description) or 'No description'}. {count(data.natural_rows)} natural impressions, "
        f"{count(data.ad_rows)} of ads; ad days {span(*comparison.window)} walked: {count(first.rows)} impressions, "
        f"{count(first.clicks)} clicks. Seeds {', '.join(map(str, comparison.seeds))}."
    )


def _tuning(comparison: Comparison) -> Iterator[str]:
    found = tuned_arms(comparison)
    if not found:
        return
    yield "## The search"
    yield ""
    yield "Metric of the tuning days, as configured and with the settings that were chosen."
    yield ""
    yield from table(
        ["arm", "as configured", "chosen", "settings"],
        [
            [
                f"`{name}`", number(getattr(tuning.trials[0].metrics, tuning.metric)),
                number(getattr(tuning.trials[tuning.chosen].metrics, tuning.metric)),
                settings_text(tuning.trials[tuning.chosen].settings),
            ]
            for name, tuning in found.items()
        ],
    )  # fmt: skip


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


def table(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    """Lines of a table, the first column to the left, and an empty one."""
    yield "| " + " | ".join(head) + " |"
    yield "|---" + "|---:" * (len(head) - 1) + "|"
    yield from ("| " + " | ".join(row) + " |" for row in rows)
    yield ""
