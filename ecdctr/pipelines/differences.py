"""Which arms are compared with which, and by how much they differ."""

from collections.abc import Sequence
from typing import Any

from ecdctr.metrics import interval, resample
from ecdctr.pipelines.scored import Scored
from ecdctr.report.comparison import BASELINES
from ecdctr.report.questions import METHODS, REASONS, REMEDIES, RIVALS

METRICS = ("auc", "gauc", "log_loss")
ASKED = [(question.arm, question.baseline) for question in (*REASONS, *REMEDIES)]


def pairs(arms: Sequence[str]) -> list[tuple[str, str]]:
    """(arm, baseline): each with both baselines and, once for two arms, with what a question asks and `ecdctr` for its variants.

    Arms of the method are also compared with every other method.
    """
    found: list[tuple[str, str]] = []
    for arm in arms:
        asked = [baseline for one, baseline in ASKED if one == arm]
        rivals = RIVALS if arm in METHODS else ()
        variant = ("ecdctr",) if arm.startswith("ecdctr_") else ()
        for baseline in dict.fromkeys((*BASELINES, *asked, *rivals, *variant)):
            told = baseline not in BASELINES and ((baseline, arm) in found or (baseline, arm) in ASKED)
            if baseline in arms and baseline != arm and not told:
                found.append((arm, baseline))
    return found


def differences(scored: Scored, arms: Sequence[str], seed: int, resamples: int = 1000) -> list[dict[str, Any]]:
    """Means over the seeds of each pair's differences, with intervals from the same resampled users for all arms.

    Args:
        scored: Predictions of all arms and seeds.
        arms: Their names.
        seed: Of the resampled users.
        resamples: How many.
    """
    label, user = scored.rows["label"].to_numpy(), scored.rows["user_id"].to_numpy()
    found = []
    for metric in METRICS:
        drawn = {
            arm: resample(label, scored.probabilities[arm], user, metric=metric, resamples=resamples, seed=seed)
            for arm in arms
        }
        for arm, baseline in pairs(arms):
            one, other = drawn[arm], drawn[baseline]
            told = interval(one, other)
            if told is None or one is None or other is None:
                continue
            by_seed = [float(difference) for difference in one.by_seed - other.by_seed]
            found.append({"arm": arm, "baseline": baseline, "metric": metric, **told, "by_seed": by_seed})
    order = {pair: place for place, pair in enumerate(pairs(arms))}
    return sorted(found, key=lambda difference: order[difference["arm"], difference["baseline"]])
