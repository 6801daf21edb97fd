"""FinalMLP (arXiv 2304.00902): two MLPs over differently gated inputs, fused bilinearly."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ecdctr.config.schema import PoolingMode
from ecdctr.data.batch import Batch
from ecdctr.features import FeatureSet
from ecdctr.models.full import FullModel
from ecdctr.nn.bilinear_fusion import BilinearFusion
from ecdctr.nn.mlp import MLP


class FinalMLP(FullModel):
    """Embed, select, predict: o_s = MLP_s(2σ(Gate_s(z_s)) ⊙ x) for two streams s, then their bilinear fusion.

    What a gate reads, z, is left to the user of the paper: here the vector of the user for the first stream, of the item for
    the second. Both streams have the same hidden layers.

    Args:
        features: The sample's contract.
        rows: Known rows of each vocabulary.
        seed: Of all initial values.
        history_dim: Length of historical vectors; None: the model reads none.
        embedding_dim: D.
        gate_hidden_units: Of the network that gates a stream's input.
        fusion_heads: Parts of the bilinear form.
        hidden_units: Of each stream.
        attention_hidden_units: Of the target attention's scoring network.
        batch_norm: In the streams.
        dropout: In the streams.
        snapshot_pooling: How snapshots become one vector.
        history_count: K, snapshots of an id; only pooling by concatenation asks for it.
        history_gate: Whether a learned gate scales historical vectors.
        history_dropout: Share of rows that train without a historical vector.

    Raises:
        ConfigError: The last hidden layer cannot be shared evenly by the heads.
    """

    def __init__(
        self,
        features: FeatureSet,
        rows: Mapping[str, int],
        *,
        seed: int,
        history_dim: int | None = None,
        embedding_dim: int = 16,
        gate_hidden_units: Sequence[int] = (32,),
        fusion_heads: int = 1,
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
        self.selectors = (features.id_fields.index(features.user_field), features.id_fields.index(features.item_field))
        self.gates = nn.ModuleList(MLP(embedding_dim, gate_hidden_units, out=self.width) for _ in self.selectors)
        self.streams = nn.ModuleList(
            MLP(self.width, hidden_units, out=None, batch_norm=batch_norm, dropout=dropout) for _ in self.selectors
        )
        self.fusion = BilinearFusion(hidden_units[-1] if hidden_units else self.width, fusion_heads)

    def output_bias(self, domain: int) -> Tensor:
        """See `CTRModel.output_bias`."""
        return self.fusion.linear.bias

    def forward(self, batch: Batch) -> Tensor:
        """Logits `(B,)`."""
        fields, _ = self.inputs(batch)
        x = torch.cat([fields.flatten(1), batch.numbers], 1)
        first, second = (
            stream(2 * torch.sigmoid(gate(fields[:, selector])) * x)
            for stream, gate, selector in zip(self.streams, self.gates, self.selectors, strict=True)
        )
        logits: Tensor = self.fusion(first, second)
        return logits
