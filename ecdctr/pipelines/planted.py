"""Worlds with a planted truth, what arms must show in them, and the page: `python -m ecdctr.pipelines.planted > docs/planted.md`."""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ecdctr.datasets.planted import Recipe, plant
from ecdctr.pipelines.planted_walk import Walked, planted_config, walk_planted
from ecdctr.report.wording import NAMES, count, scaled, signed

HEAD = """# Planted truth

In logs of real users nobody knows what transfer should bring. In these small worlds it is known, since they were made for it:
users like some categories and not the others, and a world's recipe says what natural content and ads have in common
(`ecdctr/datasets/planted.py`). The arms are those of [compare.md](compare.md), trained by the levels' own code over files of
a few thousand rows, in one process. Intervals are the project's paired bootstrap over users ([metrics.md](metrics.md)); differences
are in points (hundredths), of log loss in nats, means over the seeds. An interval speaks of other users, not of
other seeds: where CPM sees too few rows to be trained, as in the first world, two seeds of one arm differ by several points,
and in one of two worlds tried there the control with shuffled embeddings came out above `ecdctr_no_tpm`. It is judged in
the world whose long memory it destroys.

This page is written by `python -m ecdctr.pipelines.planted > docs/planted.md`; `tests/unit/test_planted.py` holds every line to
what is expected of it, one of them in `make test`, all in `make test-all`.
"""

Expected = Literal["better", "equal", "no gain"]
MEANING = {
    "better": "better by more than the margin, whole interval",
    "equal": "interval holds zero and lies within the margin on both sides",
    "no gain": "not better beyond the interval",
}


@dataclass(frozen=True)
class Claim:
    """What must be seen of two arms.

    Attributes:
        arm: Whose gain it is about.
        baseline: What it is compared with.
        expected: See `MEANING`.
        margin: Of the metric; the interval's near end must lie beyond it (`better`), or both ends within it (`equal`).
        metric: auc, gauc or log_loss.
        returning: Only rows of users who have come back with the walk.
    """

    arm: str
    baseline: str
    expected: Expected
    margin: float = 0.0
    metric: str = "auc"
    returning: bool = False

    def difference(self, walked: Walked) -> dict[str, Any]:
        """Of arm and baseline in a walk, with its interval."""
        return walked.difference(self.arm, self.baseline, self.metric, returning=self.returning)

    def holds(self, difference: dict[str, Any]) -> bool:
        """Whether a difference is as expected."""
        low, high = difference["low"], difference["high"]
        if self.metric == "log_loss":
            low, high = -high, -low
        if self.expected == "better":
            return bool(low > self.margin)
        if self.expected == "equal":
            return bool(-self.margin < low <= 0.0 <= high < self.margin)
        return bool(low <= 0.0)


def _level(every: str, window: str, **further: Any) -> dict[str, Any]:
    training = {"batch_size": 256, "sparse_learning_rate": 0.1, "dense_learning_rate": 0.005}
    return {"every": every, "window": window, "training": training, **further}


def levels(
    tpm_window: str = "20d", cpm_window: str = "12d", actr_window: str = "6d", snapshots: int = 2
) -> dict[str, Any]:
    """Clocks, windows and training of the levels for logs of a few weeks and users."""
    return {
        "tpm": _level("6d", tpm_window, snapshots=snapshots, embedding_dim=8, fields=["category"]),
        "cpm": _level("6d", cpm_window),
        "actr": {
            "window": actr_window,
            "training": {"batch_size": 32, "sparse_learning_rate": 0.05, "dense_learning_rate": 0.002},
        },
    }


@dataclass(frozen=True)
class Trial:
    """One world and what must be seen in it.

    Attributes:
        name: Of the world.
        about: What is planted, for readers.
        recipe: Of the world.
        claims: What must be seen.
        levels: Of the configuration.
    """

    name: str
    about: str
    recipe: Recipe
    claims: tuple[Claim, ...]
    levels: dict[str, Any] = field(default_factory=levels)

    def run(self, seeds: int = 2, world_seed: int = 7) -> Walked:
        """Make the world, walk the arms that the claims name, forget the files."""
        arms = list(dict.fromkeys(arm for claim in self.claims for arm in (claim.arm, claim.baseline)))
        with tempfile.TemporaryDirectory() as folder:
            return walk_planted(
                plant(self.recipe, world_seed), planted_config(arms, levels=self.levels), seeds, Path(folder)
            )


TRIALS = (
    Trial(
        "shared interests",
        "Users like in ads what they like in natural content, and see an ad every third day: transfer must help.",
        Recipe(),
        (
            Claim("ecdctr", "target_only", "better", 0.05),
            Claim("ecdctr_no_tpm", "target_only", "better"),
            Claim("finetune", "target_only", "better"),
        ),
    ),
    Trial(
        "nothing shared",
        "Ads have categories of their own, and users other tastes there; price works in both. Transfer must not hurt.",
        Recipe(shared=False, price_effect=1.0, ad_rows=0.6),
        (
            Claim("ecdctr", "target_only", "equal", 0.03),
            Claim("ecdctr_no_tpm", "target_only", "equal", 0.03),
        ),
    ),
    Trial(
        "long memory",
        "Half of the users left natural content twelve days ago, before CPM's window, and come back to see ads: what is "
        "known of them is in TPM's older snapshots alone.",
        Recipe(users=600, days=36, away=0.5, away_days=12, ad_rows=0.8),
        (
            Claim("ecdctr", "ecdctr_no_tpm", "better", 0.03, returning=True),
            Claim("ecdctr", "target_only", "better", 0.03, returning=True),
            Claim("ecdctr_shuffled_embeddings", "ecdctr_no_tpm", "no gain", returning=True),
            Claim("ecdctr_shuffled_embeddings", "ecdctr_no_tpm", "no gain"),
        ),
        levels(tpm_window="24d", cpm_window="6d", snapshots=3),
    ),
    Trial(
        "shifted ads",
        "The ads' price has mean 8 and standard deviation 4, that of natural content 0 and 1; two days of ads are there "
        "before the walk.",
        Recipe(price=(8.0, 4.0), price_effect=1.5, ad_days=2),
        (
            Claim("ecdctr", "ecdctr_bn_keep", "better", 0.01, metric="log_loss"),
            Claim("ecdctr", "ecdctr_bn_keep", "better"),
        ),
        levels(actr_window="2d"),
    ),
)  # fmt: skip


def render(seeds: int = 2) -> str:
    """The page; walks every world."""
    return HEAD + "".join("\n" + "\n".join(_section(trial, trial.run(seeds), seeds)) + "\n" for trial in TRIALS)


def _section(trial: Trial, walked: Walked, seeds: int) -> Iterator[str]:
    yield f"## {trial.name.capitalize()}"
    yield ""
    yield trial.about
    yield ""
    yield (
        f"{count(len(walked.label))} ads scored, {count(int(walked.label.sum()))} of them clicked; training steps of all arms: "
        + ", ".join(f"{level.upper()} {count(steps)}" for level, steps in walked.steps.items())
        + f"; {seeds} seeds."
    )
    yield ""
    yield "| arm | against | rows | metric | difference | 95 % interval | expected | seen |"
    yield "|---|---|---|---|---:|---:|---|---|"
    for claim in trial.claims:
        found = claim.difference(walked)
        value, low, high = (signed(claim.metric, found[name]) for name in ("difference", "low", "high"))
        margin = f" ({scaled(claim.metric, claim.margin)})" if claim.margin else ""
        rows = "returning users" if claim.returning else "all"
        yield (
            f"| `{claim.arm}` | `{claim.baseline}` | {rows} | {NAMES[claim.metric]} | {value} | {low} … {high} "
            f"| {claim.expected}{margin} | {'yes' if claim.holds(found) else '**no**'} |"
        )
    yield ""
    told = dict.fromkeys(claim.expected for claim in trial.claims)
    yield "; ".join(f"*{expected}*: {MEANING[expected]}" for expected in told) + "."


def main(arguments: Sequence[str]) -> int:
    """Write the page to standard output."""
    sys.stdout.write(render(int(arguments[0]) if arguments else 2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
