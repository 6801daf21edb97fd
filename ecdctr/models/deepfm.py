"""DeepFM (arXiv 1703.04247): first-order weights, all pairwise products, and an MLP over one embedding."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ecdctr.config.schema import PoolingMode
from ecdctr.data.batch import Batch
from ecdctr.features import FeatureSet
from ecdctr.models.full import FullModel
from ecdctr.nn.factorization import pairwise_products
from ecdctr.nn.mlp import MLP


class DeepFM(FullModel):
    """Embed, factorise, predict: ŷ = w·x + Σ_{i<j} ⟨v_i, v_j⟩ + MLP(v).

    An id's first-order weight is the last column of its row, so that one look-up brings both.

    Args:
        features: The sample's contract.
        rows: Known rows of each vocabulary.
        seed: Of all initial values.
        history_dim: Length of historical vectors; None: the model reads none.
        embedding_dim: D.
        hidden_units: Of the MLP.
        attention_hidden_units: Of the attention's scoring network.
        batch_norm: In the MLP.
        dropout: In the MLP.
        snapshot_pooling: How snapshots become one vector.
        history_count: K, snapshots of an id; only pooling by concatenation asks for it.
        history_gate: Whether a learned gate scales historical vectors.
        history_dropout: Share of rows that train without a historical vector.
    """

    def __init__(
        self,
        features: FeatureSet,
        rows: Mapping[str, int],
        *,
        seed: int,
        history_dim: int | None = None,
        embedding_dim: int = 16,
        hidden_units: Sequence[int] = (128, 64),
        attention_hidden_units: Sequence[int] = (32,),
        batch_norm: bool = True,
        dropout: float = 0.0,
        snapshot_pooling: PoolingMode = "attention",
        history_count: int = 1,
        history_gate: bool = False,
        history_dropout: float = 0.0,
    ) -> None:
        super().__init__(
            features, rows, seed=seed, history_dim=history_dim, embedding_dim=embedding_dim,
            attention_hidden_units=attention_hidden_units, snapshot_pooling=snapshot_pooling, history_count=history_count,
            history_gate=history_gate, history_dropout=history_dropout, first_order=True,
        )  # fmt: skip
        self.mlp = MLP(self.width, hidden_units, batch_norm=batch_norm, dropout=dropout)
        numbers = len(features.number_fields)
        self.number_weights = nn.Linear(numbers, 1, bias=False) if numbers else None

    def forward(self, batch: Batch) -> Tensor:
        """Logits `(B,)`."""
        fields, weights = self.inputs(batch)
        logits: Tensor = self.mlp(torch.cat([fields.flatten(1), batch.numbers], 1)).squeeze(1)
        if self.number_weights is not None:
            logits = logits + self.number_weights(batch.numbers).squeeze(1)
        return logits + weights.sum(1) + pairwise_products(fields)
