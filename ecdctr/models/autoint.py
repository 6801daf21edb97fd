"""AutoInt+ (arXiv 1810.11921): self-attention across fields beside an MLP over the same embeddings."""

from collections.abc import Mapping, Sequence
from typing import Unpack

import torch
from torch import Tensor, nn

from ecdctr.data.batch import Batch
from ecdctr.features import FeatureSet
from ecdctr.models.full import AttendedInputOptions, FullModel
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
        attention_layers: Interacting layers.
        attention_heads: Heads of each.
        attention_dim: Length of one head's vector.
        hidden_units: Of the MLP; none: AutoInt without one, as in the paper's first version.
        batch_norm: In the MLP.
        dropout: In the MLP.
        inputs: See `FullModel`.
    """

    def __init__(
        self,
        features: FeatureSet,
        rows: Mapping[str, int],
        *,
        seed: int,
        attention_layers: int = 3,
        attention_heads: int = 2,
        attention_dim: int = 16,
        hidden_units: Sequence[int] = (128, 64),
        batch_norm: bool = True,
        dropout: float = 0.0,
        **inputs: Unpack[AttendedInputOptions],
    ) -> None:
        super().__init__(features, rows, seed=seed, **inputs)
        numbers = len(features.number_fields)
        self.number_fields = NumberFields(numbers, self.embedding_dim)
        width = self.embedding_dim
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
