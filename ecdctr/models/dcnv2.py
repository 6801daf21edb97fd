"""DCN-v2 (arXiv 2008.13535, stacked structure) with target attention over click histories (DIN).

CPM and A-CTR are this class with the same configuration. With snapshots, the aggregated historical embeddings of the user
and of the item are two more fields of the feature-interaction layer (E-CDCTR, arXiv 2408.16238).
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ecdctr.data.batch import Batch
from ecdctr.features import FeatureSet
from ecdctr.features.encoding import PADDING
from ecdctr.models.base import CTRModel
from ecdctr.nn.attention import TargetAttention
from ecdctr.nn.cross import CrossNetwork
from ecdctr.nn.mlp import MLP
from ecdctr.nn.snapshot_pooling import SnapshotPooling

ENTITIES = ("user", "item")


class DCNv2(CTRModel):
    """Embed, attend, cross, predict.

    Args:
        features: The sample's contract.
        rows: Known rows of each vocabulary.
        seed: Of all initial values.
        history_dim: Length of historical vectors; None: the model reads none.
        embedding_dim: D.
        cross_layers: Cross layers.
        cross_rank: Rank of low-rank cross matrices; None: full.
        hidden_units: Of the MLP.
        attention_hidden_units: Of the attention's scoring network.
        batch_norm: In the MLP.
        dropout: In the MLP.
        snapshot_pooling: How snapshots become one vector.
    """

    def __init__(
        self,
        features: FeatureSet,
        rows: Mapping[str, int],
        *,
        seed: int,
        history_dim: int | None = None,
        embedding_dim: int = 16,
        cross_layers: int = 2,
        cross_rank: int | None = None,
        hidden_units: Sequence[int] = (128, 64),
        attention_hidden_units: Sequence[int] = (32,),
        batch_norm: bool = True,
        dropout: float = 0.0,
        snapshot_pooling: Literal["attention", "mean"] = "attention",
    ) -> None:
        super().__init__(features, rows, embedding_dim, seed)
        self.attentions = nn.ModuleDict(
            {name: TargetAttention(embedding_dim, attention_hidden_units) for name in features.sequence_fields}
        )
        width = (len(features.id_fields) + len(features.sequence_fields)) * embedding_dim + len(features.number_fields)
        self.pooling = nn.ModuleDict()
        if history_dim is not None:
            self.pooling.update({entity: SnapshotPooling(history_dim, snapshot_pooling) for entity in ENTITIES})
            width += len(ENTITIES) * history_dim
        self.cross = CrossNetwork(width, cross_layers, cross_rank)
        self.mlp = MLP(width, hidden_units, batch_norm=batch_norm, dropout=dropout)

    def forward(self, batch: Batch) -> Tensor:
        """Logits `(B,)`."""
        fields, histories = self.embed(batch)
        interests = [self._attend(name, past, fields, batch) for name, past in histories.items()]
        pooled = [pooling(*batch.history[entity]) for entity, pooling in self.pooling.items()]
        x = torch.cat([fields.flatten(1), *interests, batch.numbers, *pooled], 1)
        logits: Tensor = self.mlp(self.cross(x))
        return logits.squeeze(1)

    def _attend(self, name: str, past: Tensor, fields: Tensor, batch: Batch) -> Tensor:
        target = fields[:, self.features.id_fields.index(self.features.attention[name])]
        interest: Tensor = self.attentions[name](target, past, batch.sequences[name] != PADDING)
        return interest
