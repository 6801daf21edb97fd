"""What a comparison found, in words and in rows, the same in the page, the closing table and the documentation."""

from collections.abc import Mapping, Sequence

from ecdctr.metrics import smallest_visible_difference
from ecdctr.report.comparison import BASELINES, Comparison, SeededDifference, Tuning
from ecdctr.report.wording import DECIDING, NAMES, count, finding, printable, scaled, signed, span, verdict_of

COLUMNS = ("auc", "gauc", "log_loss", "normalized_entropy", "pcoc", "expected_calibration_error")


def baselines(comparison: Comparison) -> list[str]:
    """Baselines among the arms, the weaker one first."""
    return [name for name in BASELINES if name in comparison.arms]


def title(comparison: Comparison, arm: str) -> str:
    """An arm for readers."""
    found = comparison.arms.get(arm)
    return printable((found.title if found else "") or arm)


def between(comparison: Comparison, arm: str, baseline: str, metric: str) -> SeededDifference | None:
    """The difference of two arms in a metric, also where the file tells it the other way round."""
    for difference in comparison.differences:
        if difference.metric == metric:
            if (difference.arm, difference.baseline) == (arm, baseline):
                return difference
            if (difference.arm, difference.baseline) == (baseline, arm):
                return _turned(difference)
    return None


def _turned(difference: SeededDifference) -> SeededDifference:
    """metric(baseline) - metric(arm)."""
    changes = {
        "arm": difference.baseline, "baseline": difference.arm, "difference": -difference.difference,
        "low": -difference.high, "high": -difference.low,
        "by_seed": [None if value is None else -value for value in difference.by_seed],
    }  # fmt: skip
    return difference.model_copy(update=changes)


def seeds_disagree(difference: SeededDifference) -> bool:
    """Whether some seeds' own differences lie on the other side of zero."""
    signs = {value > 0.0 for value in difference.by_seed if value}
    return len(signs) > 1


def sentence(comparison: Comparison, difference: SeededDifference) -> str:
    """A difference in words; an open one with the smallest that could have been seen."""
    doubt = " The seeds disagree on its sign." if seeds_disagree(difference) else ""
    pair = f"{title(comparison, difference.arm)} against {title(comparison, difference.baseline)}"
    return f"{pair}. {finding(difference).sentence}{doubt}"


def headline(comparison: Comparison) -> str:
    """How many arms beat the baseline, in one line."""
    found = baselines(comparison)
    if not found:
        return "No baseline is among the arms: nothing to compare with."
    baseline = found[0]
    others = [arm for arm in comparison.arms if arm != baseline]
    judged = {arm: verdicts(comparison, arm, baseline) for arm in others}
    better = [arm for arm, told in judged.items() if "better" in told and "worse" not in told]
    worse = [arm for arm, told in judged.items() if "worse" in told]
    if not any(judged.values()):
        return "These days cannot tell the arms apart: too few users who both clicked and did not."
    name = title(comparison, baseline)
    if not better and not worse:
        return (
            f"No arm could be told from “{name}”: the days hold too few clicks for the differences there are"
            f"{_visible_in_any(comparison, others, baseline)}."
        )
    lost = f", {len(worse)} fell behind in AUC or GAUC" if worse else ""
    return f"{len(better)} of {len(others)} arms beat “{name}” in AUC or GAUC beyond chance{lost}."


def _visible_in_any(comparison: Comparison, arms: Sequence[str], baseline: str) -> str:
    """From which AUC difference on any of the arms would have been told, as the end of a sentence; empty where none was compared."""
    known = [d for arm in arms if (d := between(comparison, arm, baseline, DECIDING[0])) is not None]
    if not known:
        return ""
    least = max(smallest_visible_difference(d.low, d.high, d.level) for d in known)
    return f"; one of {scaled(DECIDING[0], least)} {NAMES[DECIDING[0]]} points would have been told in any of them, four times out of five"


def verdicts(comparison: Comparison, arm: str, baseline: str) -> list[str]:
    """better, worse or open, for each deciding metric that could be compared."""
    found = [between(comparison, arm, baseline, metric) for metric in DECIDING]
    return [verdict_of(difference) for difference in found if difference is not None]


def cell(difference: SeededDifference | None) -> str:
    """A difference with its interval in brackets, in points; starred where it is beyond chance."""
    if difference is None:
        return "–"
    value, low, high = (signed(difference.metric, v) for v in (difference.difference, difference.low, difference.high))
    return f"{value} [{low}, {high}]{'' if verdict_of(difference) == 'open' else ' *'}"


def settings_text(settings: Mapping[str, float]) -> str:
    """Tried settings in one line."""
    return ", ".join(f"{name} {value:g}" for name, value in settings.items()) or "as configured"


def tuned_arms(comparison: Comparison) -> dict[str, Tuning]:
    """The searches, by arm."""
    return {name: arm.tuning for name, arm in comparison.arms.items() if arm.tuning is not None}


def tuning_sentence(comparison: Comparison) -> str:
    """What was searched, in one sentence; empty where nothing was."""
    found = next(iter(tuned_arms(comparison).values()), None)
    if found is None:
        return ""
    first = found.trials[0].metrics
    return (
        f"Every arm was tuned with {len(found.trials)} trials on {span(*found.window)} ({count(first.rows)} impressions, "
        f"{count(first.clicks)} clicks), before the walked days, with seed {found.seed}, which is not compared; of each arm the settings "
        f"with the best {NAMES[found.metric]} were walked."
    )


def questions(comparison: Comparison) -> Sequence[SeededDifference]:
    """Differences other than with the two baselines, in AUC and GAUC: what levels are worth, what the control gains."""
    return [d for d in comparison.differences if d.baseline not in BASELINES and d.metric in DECIDING]
