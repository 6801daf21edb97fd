"""AutoInt+ (arXiv 1810.11921): self-attention across fields beside an MLP over the same embeddings."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ecdctr.config.schema import PoolingMode
from ecdctr.data.batch import Batch
from ecdctr.features import FeatureSet
from ecdctr.models.full import FullModel
from ecdctr.nn.interacting import InteractingLayer
from ecdctr.nn.mlp import MLP
from ecdctr.nn.number_fields import NumberFields


class AutoInt(FullModel):
    """Embed, interact, predict: ŷ = wᵀ[e_1, …, e_M] + b + MLP(x), with e_m what the interacting layers make of field m.

    A number is a field too: its value times a vector of its own.

    Args:
        features: The sample's contract.
        rows: Known rows of each vocabulary.
        seed: Of all initial values.
        history_dim: Length of historical vectors; None: the model reads none.
        embedding_dim: D.
        attention_layers: Interacting layers.
        attention_heads: Heads of each.
        attention_dim: Length of one head's vector.
        hidden_units: Of the MLP; none: AutoInt without one, as in the paper's first version.
        attention_hidden_units: Of the target attention's scoring network.
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
        attention_layers: int = 3,
        attention_heads: int = 2,
        attention_dim: int = 16,
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
            history_gate=history_gate, history_dropout=history_dropout,
        )  # fmt: skip
        numbers = len(features.number_fields)
        self.number_fields = NumberFields(numbers, embedding_dim)
        width = embedding_dim
        self.interacting = nn.ModuleList()
        for _ in range(attention_layers):
            layer = InteractingLayer(width, attention_heads, attention_dim)
            self.interacting.append(layer)
            width = layer.width
        self.mlp = MLP((self.fields + numbers) * width, [])
        self.deep = MLP(self.width, hidden_units, batch_norm=batch_norm, dropout=dropout) if hidden_units else None

    def forward(self, batch: Batch) -> Tensor:
        """Logits `(B,)`."""
        fields, _ = self.inputs(batch)
        interacted = torch.cat([fields, self.number_fields(batch.numbers)], 1)
        for layer in self.interacting:
            interacted = layer(interacted)
        logits: Tensor = self.mlp(interacted.flatten(1))
        if self.deep is not None:
            logits = logits + self.deep(torch.cat([fields.flatten(1), batch.numbers], 1))
        return logits.squeeze(1)
