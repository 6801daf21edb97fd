"""Embeddings and an MLP: the base model that DIN (arXiv 1706.06978, section 4.2) is measured against."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ecdctr.config.schema import PoolingMode
from ecdctr.data.batch import Batch
from ecdctr.features import FeatureSet
from ecdctr.models.full import FullModel
from ecdctr.nn.mlp import MLP


class DNN(FullModel):
    """Embed, average, predict.

    A click history enters as the mean of its clicks, whatever the target.

    Args:
        features: The sample's contract.
        rows: Known rows of each vocabulary.
        seed: Of all initial values.
        history_dim: Length of historical vectors; None: the model reads none.
        embedding_dim: D.
        hidden_units: Of the MLP.
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
        batch_norm: bool = True,
        dropout: float = 0.0,
        snapshot_pooling: PoolingMode = "attention",
        history_count: int = 1,
        history_gate: bool = False,
        history_dropout: float = 0.0,
    ) -> None:
        super().__init__(
            features, rows, seed=seed, history_dim=history_dim, embedding_dim=embedding_dim,
            attention_hidden_units=None, snapshot_pooling=snapshot_pooling, history_count=history_count,
            history_gate=history_gate, history_dropout=history_dropout,
        )  # fmt: skip
        self.mlp = MLP(self.width, hidden_units, batch_norm=batch_norm, dropout=dropout)

    def forward(self, batch: Batch) -> Tensor:
        """Logits `(B,)`."""
        fields, _ = self.inputs(batch)
        logits: Tensor = self.mlp(torch.cat([fields.flatten(1), batch.numbers], 1))
        return logits.squeeze(1)
