"""FinalMLP (arXiv 2304.00902): two MLPs over differently gated inputs, fused bilinearly."""

from collections.abc import Mapping, Sequence
from typing import Unpack

import torch
from torch import Tensor, nn

from ecdctr.data.batch import Batch
from ecdctr.features import FeatureSet
from ecdctr.models.full import AttendedInputOptions, FullModel
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
        gate_hidden_units: Of the network that gates a stream's input.
        fusion_heads: Parts of the bilinear form.
        hidden_units: Of each stream.
        batch_norm: In the streams.
        dropout: In the streams.
        inputs: See `FullModel`.

    Raises:
        ConfigError: The last hidden layer cannot be shared evenly by the heads.
    """

    def __init__(
        self,
        features: FeatureSet,
        rows: Mapping[str, int],
        *,
        seed: int,
        gate_hidden_units: Sequence[int] = (32,),
        fusion_heads: int = 1,
        hidden_units: Sequence[int] = (128, 64),
        batch_norm: bool = True,
        dropout: float = 0.0,
        **inputs: Unpack[AttendedInputOptions],
    ) -> None:
        super().__init__(features, rows, seed=seed, **inputs)
        self.selectors = (features.id_fields.index(features.user_field), features.id_fields.index(features.item_field))
        self.gates = nn.ModuleList(MLP(self.embedding_dim, gate_hidden_units, out=self.width) for _ in self.selectors)
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
