"""DeepFM (arXiv 1703.04247): first-order weights, all pairwise products, and an MLP over one embedding."""

from collections.abc import Mapping, Sequence
from typing import Unpack

import torch
from torch import Tensor, nn

from ecdctr.data.batch import Batch
from ecdctr.features import FeatureSet
from ecdctr.models.full import AttendedInputOptions, FullModel
from ecdctr.nn.factorization import pairwise_products
from ecdctr.nn.mlp import MLP


class DeepFM(FullModel):
    """Embed, factorise, predict: ŷ = w·x + Σ_{i<j} ⟨v_i, v_j⟩ + MLP(v).

    An id's first-order weight is the last column of its row, so that one look-up brings both.

    Args:
        features: The sample's contract.
        rows: Known rows of each vocabulary.
        seed: Of all initial values.
        hidden_units: Of the MLP.
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
        hidden_units: Sequence[int] = (128, 64),
        batch_norm: bool = True,
        dropout: float = 0.0,
        **inputs: Unpack[AttendedInputOptions],
    ) -> None:
        super().__init__(features, rows, seed=seed, first_order=True, **inputs)
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
