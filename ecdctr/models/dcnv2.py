"""DCN-v2 (arXiv 2008.13535) with target attention over click histories (DIN)."""

from collections.abc import Mapping, Sequence
from typing import Literal, Unpack

import torch
from torch import Tensor

from ecdctr.data.batch import Batch
from ecdctr.exceptions import ConfigError
from ecdctr.features import FeatureSet
from ecdctr.models.full import AttendedInputOptions, FullModel
from ecdctr.nn.cross import CrossNetwork
from ecdctr.nn.mlp import MLP


class DCNv2(FullModel):
    """Embed, cross, predict.

    Args:
        features: The sample's contract.
        rows: Known rows of each vocabulary.
        seed: Of all initial values.
        cross_layers: Cross layers.
        cross_rank: Rank of low-rank cross matrices; None: full.
        structure: `stacked`: the MLP reads what the cross network gives; `parallel`: both read the inputs.
        hidden_units: Of the MLP.
        batch_norm: In the MLP.
        dropout: In the MLP.
        inputs: See `FullModel`.

    Raises:
        ConfigError: Another structure.
    """

    def __init__(
        self,
        features: FeatureSet,
        rows: Mapping[str, int],
        *,
        seed: int,
        cross_layers: int = 2,
        cross_rank: int | None = None,
        structure: Literal["stacked", "parallel"] = "stacked",
        hidden_units: Sequence[int] = (128, 64),
        batch_norm: bool = True,
        dropout: float = 0.0,
        **inputs: Unpack[AttendedInputOptions],
    ) -> None:
        super().__init__(features, rows, seed=seed, **inputs)
        if structure not in ("stacked", "parallel"):
            raise ConfigError(f"structure {structure!r} of dcnv2", hint="choose 'stacked' or 'parallel'")
        self.parallel = structure == "parallel"
        self.cross = CrossNetwork(self.width, cross_layers, cross_rank)
        if self.parallel:
            self.deep = MLP(self.width, hidden_units, out=None, batch_norm=batch_norm, dropout=dropout)
            self.mlp = MLP(self.width + self.deep.width, [])
        else:
            self.mlp = MLP(self.width, hidden_units, batch_norm=batch_norm, dropout=dropout)

    def forward(self, batch: Batch) -> Tensor:
        """Logits `(B,)`."""
        fields, _ = self.inputs(batch)
        x = torch.cat([fields.flatten(1), batch.numbers], 1)
        crossed = self.cross(x)
        logits: Tensor = self.mlp(torch.cat([crossed, self.deep(x)], 1) if self.parallel else crossed)
        return logits.squeeze(1)
