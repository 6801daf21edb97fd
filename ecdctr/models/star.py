"""STAR (arXiv 2101.11427): partitioned normalisation, a star of shared and domain networks, an auxiliary network."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ecdctr.data.batch import Batch
from ecdctr.features import FeatureSet
from ecdctr.features.domains import DOMAINS
from ecdctr.models.joint import JointModel
from ecdctr.nn.embedding import INIT_STD
from ecdctr.nn.mlp import MLP
from ecdctr.nn.star import PartitionedNorm, StarLinear


class STAR(JointModel):
    """Embed, normalise by domain, predict: ŷ = star network(PN(x)) + auxiliary network(domain's vector, x).

    Args:
        features: The sample's contract.
        rows: Known rows of each vocabulary.
        seed: Of all initial values.
        embedding_dim: D; the domain's vector has this length, too.
        hidden_units: Of the star network.
        auxiliary_units: Of the auxiliary network.
        attention_hidden_units: Of the attention's scoring network.
        dropout: In the star network.
    """

    def __init__(
        self,
        features: FeatureSet,
        rows: Mapping[str, int],
        *,
        seed: int,
        embedding_dim: int = 16,
        hidden_units: Sequence[int] = (128, 64),
        auxiliary_units: Sequence[int] = (32,),
        attention_hidden_units: Sequence[int] = (32,),
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            features, rows, seed=seed, embedding_dim=embedding_dim, attention_hidden_units=attention_hidden_units
        )
        domains = len(DOMAINS)
        self.norm = PartitionedNorm(self.width, domains)
        widths = [self.width, *hidden_units]
        self.hidden = nn.ModuleList(
            StarLinear(inputs, outputs, domains) for inputs, outputs in zip(widths, hidden_units, strict=False)
        )
        self.dropout = nn.Dropout(dropout)
        self.output = StarLinear(widths[-1], 1, domains)
        self.domain_vectors = nn.Parameter(torch.randn(domains, embedding_dim) * INIT_STD)
        self.auxiliary = MLP(embedding_dim + self.width, auxiliary_units)

    def output_bias(self, domain: int) -> Tensor:
        """See `CTRModel.output_bias`."""
        return self.output.domain_bias[domain]

    def forward(self, batch: Batch) -> Tensor:
        """Logits `(B,)`."""
        return self.by_domain(batch, [self.flat_inputs(batch)])

    def head(self, domain: int, shared: Sequence[Tensor]) -> Tensor:
        """See `JointModel.head`."""
        (x,) = shared
        hidden = self.norm(x, domain)
        for layer in self.hidden:
            hidden = self.dropout(torch.relu(layer(hidden, domain)))
        about = self.domain_vectors[domain].expand(x.shape[0], -1)
        logits: Tensor = self.output(hidden, domain) + self.auxiliary(torch.cat([about, x], 1))
        return logits.squeeze(1)
