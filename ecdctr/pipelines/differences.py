"""Which arms are compared with which, and by how much they differ."""

from collections.abc import Sequence
from typing import Any

from ecdctr.metrics import interval, resample
from ecdctr.pipelines.scored import Scored
from ecdctr.report.comparison import BASELINES

METRICS = ("auc", "gauc", "log_loss")

RIVALS = ("frozen_features", "frozen_tower", "mmoe", "ple", "star", "minet", "autoft")
"""Other methods that E-CDCTR has to stand beside."""

CONTROLS = {
    "ecdctr": ("ecdctr_no_tpm", "ecdctr_no_cpm", "ecdctr_shuffled_embeddings", *RIVALS),
    "ecdctr_autoft": RIVALS,
    "ecdctr_autoft_prior": ("ecdctr_autoft", *RIVALS),
    "autoft": ("autoft_random",),
    "autoft_prior": ("autoft",),
    "ecdctr_shuffled_embeddings": ("ecdctr_no_tpm",),
    "target_only_wide": ("target_only",),
}
"""Further comparisons that answer a question of their own: what is a level worth, does the control gain nothing."""


def pairs(arms: Sequence[str]) -> list[tuple[str, str]]:
    """(arm, baseline): with both baselines; else, once for two arms, with `ecdctr` for its variants, and with controls."""
    found = []
    for arm in arms:
        variant = ("ecdctr",) if arm.startswith("ecdctr_") else ()
        for baseline in dict.fromkeys((*BASELINES, *CONTROLS.get(arm, ()), *variant)):
            told = baseline not in BASELINES and (baseline, arm) in found
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
