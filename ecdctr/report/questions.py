"""What a comparison is asked beside its table: against whom the method is measured, what its parts are worth, what remedies brought."""

from dataclasses import dataclass

from ecdctr.report.comparison import BASELINES

AIM = ("ecdctr", "ecdctr_autoft")
"""The arms that the aim names."""

RIVALS = (*BASELINES, "frozen_features", "frozen_tower", "mmoe", "ple", "star", "minet", "autoft")
"""What the aim measures the method against."""


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


REASONS = (
    Question("Does pre-training bring anything at all?", "finetune", "target_only"),
    Question("And under the long-term level?", "ecdctr", "ecdctr_no_cpm"),
    Question("Does the long-term level bring anything?", "ecdctr", "ecdctr_no_tpm"),
    Question("Is it what the vectors know, or that they are there?", "ecdctr", "ecdctr_shuffled_embeddings"),
    Question("Does the control gain anything?", "ecdctr_shuffled_embeddings", "ecdctr_no_tpm"),
    Question("Does beginning normalisation anew bring anything?", "ecdctr_no_tpm", "finetune"),
    Question("On top of all levels?", "ecdctr", "ecdctr_bn_keep"),
    Question("Do its statistics need a warm-up?", "ecdctr_bn_cold", "ecdctr"),
    Question("Are clocks of several days too slow?", "ecdctr_retrained", "ecdctr"),
    Question("Does a labelled row leak through the newest snapshot?", "ecdctr_latest_snapshot", "ecdctr"),
    Question("Do snapshots of users carry over, without those of items?", "ecdctr_history_user", "ecdctr"),
    Question("Does AutoFT choose better than coins?", "autoft", "autoft_random"),
    Question("Does AutoFT bring anything on top of all levels?", "ecdctr_autoft", "ecdctr"),
)
"""Why the method stands where it stands."""

REMEDIES = (
    Question("Historical vectors of length one: they grow with the rows behind them", "ecdctr_history_unit", "ecdctr"),
    Question("A learned gate on each row's historical vectors", "ecdctr_gate", "ecdctr"),
    Question("A fifth of the rows trained without historical vectors", "ecdctr_history_dropout", "ecdctr"),
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
