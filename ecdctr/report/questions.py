"""What a comparison is asked beside its table: against whom the method is measured, what its parts are worth, what remedies brought."""

from dataclasses import dataclass

from ecdctr.report.comparison import BASELINES

AIM = ("ecdctr", "ecdctr_autoft")
"""The arms that the aim names."""

RIVALS = (
    *BASELINES, "target_only_wide", "frozen_features", "frozen_tower", "mmoe", "ple", "star", "minet", "autoft",
)  # fmt: skip
"""What the aim measures the method against."""

MAIN = (
    *AIM, *BASELINES[::-1], *RIVALS[len(BASELINES) :],
    "ecdctr_no_tpm", "ecdctr_no_cpm", "ecdctr_bn_keep", "ecdctr_bn_statistics", "ecdctr_snapshots_1", "ecdctr_snapshots_2",
    "ecdctr_pool_mean", "ecdctr_pool_concat", "ecdctr_latest_snapshot", "ecdctr_shuffled_embeddings",
    "autoft_field", "autoft_layer", "autoft_random",
)  # fmt: skip
"""Rows of a data set's main table, in this order; further arms are on its own page."""

CONTROLS = ("ecdctr_shuffled_embeddings", "autoft_random")
"""Arms that must not win, and are never called the best."""


@dataclass(frozen=True)
class Question:
    """A difference that answers something.

    Attributes:
        asked: The question.
        arm: Its answer is this arm's difference
        baseline: to this one.
    """

    asked: str
    arm: str
    baseline: str


PARTS = {
    "What each level is worth": (
        Question("Does pre-training bring anything at all?", "finetune", "target_only"),
        Question("And under the long-term level?", "ecdctr", "ecdctr_no_cpm"),
        Question("Does the long-term level bring anything?", "ecdctr", "ecdctr_no_tpm"),
        Question("Is it what the vectors know, or that they are there?", "ecdctr", "ecdctr_shuffled_embeddings"),
        Question("Does the control gain anything?", "ecdctr_shuffled_embeddings", "ecdctr_no_tpm"),
        Question("Do as many numbers per id, learned from ads alone, bring anything?", "target_only_wide", "target_only"),
        Question("Do all levels bring more than those numbers?", "ecdctr", "target_only_wide"),
    ),
    "How much of the past, and how it is read": (
        Question("Do all snapshots bring more than the newest alone?", "ecdctr", "ecdctr_snapshots_1"),
        Question("More than the newest two?", "ecdctr", "ecdctr_snapshots_2"),
        Question("Does attention over them bring more than their mean?", "ecdctr", "ecdctr_pool_mean"),
        Question("More than all of them side by side?", "ecdctr", "ecdctr_pool_concat"),
        Question("Must a row read what was known on its day, not the newest?", "ecdctr", "ecdctr_latest_snapshot"),
        Question("Do snapshots of users carry over, without those of items?", "ecdctr_history_user", "ecdctr"),
    ),
    "How batch normalisation begins on ads": (
        Question("Does beginning it anew bring anything, without history?", "ecdctr_no_tpm", "finetune"),
        Question("On top of all levels?", "ecdctr", "ecdctr_bn_keep"),
        Question("More than new statistics alone?", "ecdctr", "ecdctr_bn_statistics"),
        Question("Do its statistics need a warm-up?", "ecdctr", "ecdctr_bn_cold"),
    ),
    "What AutoFT chooses": (
        Question("Does AutoFT bring more than fine-tuning everything?", "autoft", "finetune"),
        Question("By fields alone?", "autoft_field", "finetune"),
        Question("By layers alone?", "autoft_layer", "finetune"),
        Question("Does it choose better than coins?", "autoft", "autoft_random"),
        Question("Are both better than fields alone?", "autoft", "autoft_field"),
        Question("Are both better than layers alone?", "autoft", "autoft_layer"),
        Question("Does it bring anything on top of all levels?", "ecdctr_autoft", "ecdctr"),
    ),
    "What clocks of several days lose": (
        Question("Is everything trained anew each day better?", "ecdctr_retrained", "ecdctr"),
    ),
}  # fmt: skip
"""Why the method stands where it stands, part by part."""

REASONS = tuple(question for asked in PARTS.values() for question in asked)

REMEDIES = (
    Question("Historical vectors of length one: they grow with the rows behind them", "ecdctr_history_unit", "ecdctr"),
    Question("A learned gate on each row's historical vectors", "ecdctr_gate", "ecdctr"),
    Question("Each of a row's historical vectors left out with probability 0.2", "ecdctr_history_dropout", "ecdctr"),
    Question("Historical vectors of items alone", "ecdctr_history_item", "ecdctr"),
    Question("Rows that CPM has often moved move less: its tables' optimiser goes on", "ecdctr_table_state", "ecdctr"),
    Question("The same for the simple baseline", "finetune_table_state", "finetune"),
    Question("AutoFT begins as full fine-tuning, and its policy moves ten times as fast", "autoft_prior", "autoft"),
    Question("The same on top of all levels", "ecdctr_autoft_prior", "ecdctr_autoft"),
    Question("And the tables' optimiser goes on", "ecdctr_autoft_steady", "ecdctr_autoft"),
)
"""What was tried, each as an arm of its own, and what it is a remedy of."""

METHODS = (*AIM, *(remedy.arm for remedy in REMEDIES if remedy.arm.startswith("ecdctr_")))
"""Arms of the method that are measured against every rival."""
