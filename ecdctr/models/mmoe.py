"""MMoE (Ma et al., KDD 2018): experts that all tasks share, a gate and a tower of each task's own."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ecdctr.data.batch import Batch
from ecdctr.features import FeatureSet
from ecdctr.features.domains import DOMAINS
from ecdctr.models.joint import JointModel
from ecdctr.nn.experts import gated_sum
from ecdctr.nn.mlp import MLP


class MMoE(JointModel):
    """Embed, mix, predict: ŷ_k = h_k(Σ_i softmax(W_k x)_i f_i(x)); the task k of a row is its domain.

    Args:
        features: The sample's contract.
        rows: Known rows of each vocabulary.
        seed: Of all initial values.
        embedding_dim: D.
        experts: How many experts f.
        expert_units: Layers of each.
        tower_units: Hidden layers of each tower h.
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
        experts: int = 4,
        expert_units: Sequence[int] = (128,),
        tower_units: Sequence[int] = (64,),
        attention_hidden_units: Sequence[int] = (32,),
        batch_norm: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            features, rows, seed=seed, embedding_dim=embedding_dim, attention_hidden_units=attention_hidden_units
        )
        self.experts = nn.ModuleList(
            MLP(self.width, expert_units, out=None, batch_norm=batch_norm, dropout=dropout) for _ in range(experts)
        )
        self.gates = nn.ModuleList(nn.Linear(self.width, experts, bias=False) for _ in DOMAINS)
        self.towers = nn.ModuleList(
            MLP(expert_units[-1], tower_units, batch_norm=batch_norm, dropout=dropout) for _ in DOMAINS
        )

    def output_bias(self, domain: int) -> Tensor:
        """See `CTRModel.output_bias`."""
        return self.last_bias(self.towers[domain])

    def forward(self, batch: Batch) -> Tensor:
        """Logits `(B,)`."""
        x = self.flat_inputs(batch)
        experts = torch.stack([expert(x) for expert in self.experts], 1)
        return self.by_domain(batch, [x, experts])

    def head(self, domain: int, shared: Sequence[Tensor]) -> Tensor:
        """See `JointModel.head`."""
        x, experts = shared
        logits: Tensor = self.towers[domain](gated_sum(self.gates[domain](x), experts))
        return logits.squeeze(1)
