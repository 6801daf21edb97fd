"""What comparisons answer: each question in a few words, and how the method stands against every baseline."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ecdctr.metrics import smallest_visible_difference
from ecdctr.report.comparison import BASELINES, Comparison, SeededDifference
from ecdctr.report.comparison_words import between
from ecdctr.report.questions import AIM, CONTROLS, PARTS, REMEDIES, RIVALS, Question
from ecdctr.report.wording import DECIDING, NAMES, count, number, printable, scaled, signed, unit_of, verdict_of


@dataclass(frozen=True)
class Standing:
    """How an arm stands against some baselines in one metric.

    Attributes:
        metric: Its key.
        below: Differences to baselines whose mean is higher, beyond chance or not.
        compared: How many baselines there were.
    """

    metric: str
    below: list[SeededDifference]
    compared: int

    @property
    def text(self) -> str:
        """Yes, or no with what is above it."""
        if not self.compared:
            return "not compared"
        if not self.below:
            return f"yes, {self.compared} of {self.compared}"
        lost = ", ".join(f"`{printable(each.baseline)}` {starred(each)}" for each in self.below)
        return f"no, {self.compared - len(self.below)} of {self.compared}; below {lost}"


def starred(difference: SeededDifference) -> str:
    """A difference without its interval; starred where it is beyond chance."""
    return signed(difference.metric, difference.difference) + ("" if verdict_of(difference) == "open" else " *")


def standing(comparison: Comparison, arm: str, metric: str, baselines: Iterable[str] = RIVALS) -> Standing:
    """How an arm stands against every baseline of the comparison."""
    known = [d for name in baselines if name != arm and (d := between(comparison, arm, name, metric)) is not None]
    return Standing(metric, sorted((d for d in known if d.difference < 0.0), key=lambda d: d.difference), len(known))


def best_arms(comparison: Comparison) -> list[tuple[str, str, str]]:
    """Metric, its highest arm and that arm's figure; controls are left out."""
    found = []
    for metric in DECIDING:
        known = {
            name: value
            for name, arm in comparison.arms.items()
            if name not in CONTROLS and (value := getattr(arm.mean, metric)) is not None
        }
        if known:
            highest = max(known, key=lambda name: known[name])
            found.append((metric, highest, number(known[highest])))
    return found


def aim_rows(comparison: Comparison) -> list[list[str]]:
    """Rows of a table: what the aim asks, and the answer of each of its arms; none where no such arm was walked."""
    arms = [name for name in AIM if name in comparison.arms]
    if not arms:
        return []
    rows = [["", *(f"`{arm}`" for arm in arms)]]
    rows += [
        [f"{NAMES[metric]} at or above every baseline?", *(standing(comparison, arm, metric).text for arm in arms)]
        for metric in DECIDING
    ]
    ask = (
        (f"Above `{BASELINES[1]}` beyond the interval?", BASELINES[1], "better", 1.0),
        (f"Below `{BASELINES[0]}` anywhere?", BASELINES[0], "worse", -1.0),
    )
    rows += [
        [asked, *(_either(comparison, arm, baseline, verdict, sign) for arm in arms)]
        for asked, baseline, verdict, sign in ask
    ]
    return rows


def _either(comparison: Comparison, arm: str, baseline: str, verdict: str, sign: float) -> str:
    """Yes with the metrics that say so beyond chance; otherwise no, with those that lean that way."""
    known = [d for metric in DECIDING if (d := between(comparison, arm, baseline, metric)) is not None]
    if not known:
        return "not compared"
    said = [d for d in known if verdict_of(d) == verdict]
    leaning = [d for d in known if d not in said and sign * d.difference > 0.0]
    parts = [f"yes in {_figures(said)}" if said else "no"]
    return parts[0] + (f"; {_figures(leaning)} within chance" if leaning else "")


def _figures(found: Sequence[SeededDifference]) -> str:
    return " and ".join(f"{NAMES[d.metric]} ({starred(d)})" for d in found)


def answer(comparisons: Sequence[Comparison], question: Question) -> str:
    """What all data sets say together, in a few words: where it is better, where worse; else what would have been seen."""
    found = [
        (printable(comparison.dataset.name), difference)
        for comparison in comparisons
        for metric in DECIDING
        if (difference := between(comparison, question.arm, question.baseline, metric)) is not None
    ]
    if not found:
        return "not asked"
    parts = []
    for word in ("better", "worse"):
        metrics = {
            metric: [name for name, d in found if d.metric == metric and verdict_of(d) == word] for metric in DECIDING
        }
        told = [NAMES[metric] + _of(names, comparisons) for metric, names in metrics.items() if names]
        parts += [f"{word} in {' and in '.join(told)}"] if told else []
    return "; ".join(parts) or f"cannot be told; {_visible([d for _, d in found])}"


def _of(names: Sequence[str], comparisons: Sequence[Comparison]) -> str:
    return f" of {', '.join(names)}" if len(comparisons) > 1 else ""


def _visible(found: Sequence[SeededDifference]) -> str:
    """From which size on a difference would have been seen, in the sharpest metric and data set."""
    least, metric = min((smallest_visible_difference(d.low, d.high, d.level), d.metric) for d in found)
    return f"{scaled(metric, least)} {NAMES[metric]}{unit_of(metric)} would have been"


def answered(comparison: Comparison) -> list[tuple[str, list[Question]]]:
    """Questions that a comparison has both arms for, by part; remedies last."""
    parts = {**PARTS, "What remedies brought": REMEDIES}
    known = [
        (title, [q for q in asked if between(comparison, q.arm, q.baseline, DECIDING[0]) is not None])
        for title, asked in parts.items()
    ]
    return [(title, asked) for title, asked in known if asked]


def users_sentence(comparison: Comparison) -> str:
    """On how many users the figures rest; empty where nothing was compared."""
    users = {d.metric: d.users for d in comparison.differences}
    if not users:
        return ""
    within = f"GAUC on the {count(users['gauc'])} who both clicked and did not" if "gauc" in users else "GAUC on none"
    return f"AUC rests on {count(users.get('auc', 0))} users, {within}."


def chance_sentence(comparison: Comparison) -> str:
    """How many differences are starred, and how many would be if no arm differed from any other; empty where none was told."""
    told = [d for d in comparison.differences if d.metric in DECIDING]
    if not told:
        return ""
    beyond = [d for d in told if verdict_of(d) != "open"]
    return (
        f"{len(beyond)} of {len(told)} differences in AUC and GAUC are beyond their interval; were there none at all, about "
        f"{round(sum(1.0 - d.level for d in told))} would still be."
    )
