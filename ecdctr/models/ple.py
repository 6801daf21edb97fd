"""PLE (Tang et al., RecSys 2020): layers of shared and of each task's own experts, separated step by step."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from ecdctr.data.batch import Batch
from ecdctr.features import FeatureSet
from ecdctr.features.domains import DOMAINS
from ecdctr.models.joint import JointModel
from ecdctr.nn.experts import ExtractionLayer
from ecdctr.nn.mlp import MLP


class PLE(JointModel):
    """Embed, extract, predict; the task of a row is its domain. One extraction layer is the paper's CGC.

    Args:
        features: The sample's contract.
        rows: Known rows of each vocabulary.
        seed: Of all initial values.
        embedding_dim: D.
        extraction_layers: How many extraction layers.
        specific_experts: Experts of each domain, in each layer.
        shared_experts: Experts of both domains, in each layer.
        expert_units: Layers of each expert.
        tower_units: Hidden layers of each tower.
        attention_hidden_units: Of the attention's scoring network.
        batch_norm: In experts and towers.
        dropout: In experts and towers.
    """

    def __init__(
        self,
        features: FeatureSet,
        rows: Mapping[str, int],
        *,
        seed: int,
        embedding_dim: int = 16,
        extraction_layers: int = 2,
        specific_experts: int = 2,
        shared_experts: int = 2,
        expert_units: Sequence[int] = (128,),
        tower_units: Sequence[int] = (64,),
        attention_hidden_units: Sequence[int] = (32,),
        batch_norm: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            features, rows, seed=seed, embedding_dim=embedding_dim, attention_hidden_units=attention_hidden_units
        )

        def expert(inputs: int) -> MLP:
            return MLP(inputs, expert_units, out=None, batch_norm=batch_norm, dropout=dropout)

        width = expert_units[-1]
        self.extraction = nn.ModuleList(
            ExtractionLayer(
                width if layer else self.width, expert, width, tasks=len(DOMAINS), specific=specific_experts,
                shared=shared_experts, last=layer == extraction_layers - 1,
            )
            for layer in range(extraction_layers)
        )  # fmt: skip
        self.towers = nn.ModuleList(MLP(width, tower_units, batch_norm=batch_norm, dropout=dropout) for _ in DOMAINS)

    def output_bias(self, domain: int) -> Tensor:
        """See `CTRModel.output_bias`."""
        return self.last_bias(self.towers[domain])

    def forward(self, batch: Batch) -> Tensor:
        """Logits `(B,)`."""
        states = [self.flat_inputs(batch)] * (len(DOMAINS) + 1)
        for layer in self.extraction:
            states = layer(states)
        return self.by_domain(batch, states)

    def head(self, domain: int, shared: Sequence[Tensor]) -> Tensor:
        """See `JointModel.head`."""
        logits: Tensor = self.towers[domain](shared[domain])
        return logits.squeeze(1)
