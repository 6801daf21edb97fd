"""The arms of a comparison, as data: what each takes from the levels above the ad model (contract §7)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Arm:
    """One way to train the ad model.

    Attributes:
        name: As used in tables, reports and configs.
        pretrained: Starts from CPM; else from random parameters.
        history: Reads the aggregated historical embeddings of TPM.
        batch_norm: How batch normalisation is re-initialised after CPM; None: as `transfer.batch_norm` says.
        title: For readers of the report.
    """

    name: str
    pretrained: bool
    history: bool
    batch_norm: str | None = None
    title: str = ""

    @property
    def cpm(self) -> str:
        """Arm name of the CPM versions that this arm starts from."""
        return "history" if self.history else "plain"


ARMS = {
    arm.name: arm
    for arm in (
        Arm("ecdctr", pretrained=True, history=True, title="E-CDCTR: all three levels"),
        Arm("ecdctr_no_tpm", pretrained=True, history=False, title="E-CDCTR without the long-term level"),
        Arm(
            "finetune",
            pretrained=True,
            history=False,
            batch_norm="keep",
            title="Pre-train on natural content, fine-tune",
        ),
        Arm("target_only", pretrained=False, history=False, title="Ads only"),
    )
}
