"""Embeddings and an MLP: the base model that DIN (arXiv 1706.06978, section 4.2) is measured against."""

from collections.abc import Mapping, Sequence
from typing import Unpack

import torch
from torch import Tensor

from ecdctr.data.batch import Batch
from ecdctr.features import FeatureSet
from ecdctr.models.full import FullModel, InputOptions
from ecdctr.nn.mlp import MLP


class DNN(FullModel):
    """Embed, average, predict.

    A click history enters as the mean of its clicks, whatever the target.

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
        **inputs: Unpack[InputOptions],
    ) -> None:
        super().__init__(features, rows, seed=seed, attention_hidden_units=None, **inputs)
        self.mlp = MLP(self.width, hidden_units, batch_norm=batch_norm, dropout=dropout)

    def forward(self, batch: Batch) -> Tensor:
        """Logits `(B,)`."""
        fields, _ = self.inputs(batch)
        logits: Tensor = self.mlp(torch.cat([fields.flatten(1), batch.numbers], 1))
        return logits.squeeze(1)
