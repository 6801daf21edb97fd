"""TPM, the tiny pre-training model of E-CDCTR (arXiv 2408.16238): key features, embeddings, a shallow MLP."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ecdctr.data.batch import Batch
from ecdctr.features import FeatureSet
from ecdctr.models.base import CTRModel
from ecdctr.nn.mlp import MLP


class TinyModel(CTRModel):
    """Its embeddings of users and items are what it is for.

    Args:
        features: The key features alone.
        rows: Known rows of each vocabulary.
        embedding_dim: D.
        hidden_units: Of the MLP.
        seed: Of all initial values.
    """

    def __init__(
        self,
        features: FeatureSet,
        rows: Mapping[str, int],
        *,
        seed: int,
        embedding_dim: int = 16,
        hidden_units: Sequence[int] = (32, 16),
    ) -> None:
        super().__init__(features, rows, embedding_dim, seed)
        pairs = 1
        self.mlp = MLP(len(features.id_fields) * embedding_dim + pairs, hidden_units)

    def forward(self, batch: Batch) -> Tensor:
        """Logits `(B,)`."""
        fields, _ = self.embed(batch)
        # The product of user and item pulls both into one space, so that their vectors mean something outside this MLP.
        affinity = (fields[:, 0] * fields[:, 1]).sum(-1, keepdim=True)
        logits: Tensor = self.mlp(torch.cat([fields.flatten(1), affinity], 1))
        return logits.squeeze(1)
