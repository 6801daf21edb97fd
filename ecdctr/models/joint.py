"""What every model of both domains shares: one input layer, and heads that see the rows of their domain alone."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ecdctr.data.batch import Batch
from ecdctr.features import FeatureSet
from ecdctr.features.domains import AD, DOMAINS
from ecdctr.models.full import FullModel


class JointModel(FullModel):
    """A model that is trained on natural and ad rows together, and serves ads with the ad head.

    It reads id fields, numbers and attended click histories as the full models do, but no historical embeddings.

    Args:
        features: The sample's contract.
        rows: Known rows of each vocabulary.
        seed: Of all initial values.
        embedding_dim: D.
        attention_hidden_units: Of the attention's scoring network; None: the mean of the clicks instead of attention.
    """

    def __init__(
        self,
        features: FeatureSet,
        rows: Mapping[str, int],
        *,
        seed: int,
        embedding_dim: int,
        attention_hidden_units: Sequence[int] | None,
    ) -> None:
        super().__init__(
            features, rows, seed=seed, history_dim=None, embedding_dim=embedding_dim,
            attention_hidden_units=attention_hidden_units, snapshot_pooling="mean",
        )  # fmt: skip

    def flat_inputs(self, batch: Batch) -> Tensor:
        """All fields and numbers beside each other, `(B, width)`."""
        fields, _ = self.inputs(batch)
        return torch.cat([fields.flatten(1), batch.numbers], 1)

    @abstractmethod
    def head(self, domain: int, shared: Sequence[Tensor]) -> Tensor:
        """Logits `(B',)` of rows of one domain, from what all rows share; called for every domain, also without rows."""

    def by_domain(self, batch: Batch, shared: Sequence[Tensor]) -> Tensor:
        """Logits `(B,)`, each row's from the head of its domain.

        Args:
            batch: The rows; without domains all are ads.
            shared: Tensors of all rows, `(B, …)`, of which a head gets its own rows.
        """
        if batch.domain is None:
            return self.head(AD, shared)
        logits = shared[0].new_zeros(len(batch))
        for domain in range(len(DOMAINS)):
            # Also without rows: the other ranks may have some, and normalisation waits for all ranks.
            rows = (batch.domain == domain).nonzero().squeeze(1)
            found = self.head(domain, [part.index_select(0, rows) for part in shared])
            # The head's products may have had 16 bits.
            logits = logits.index_copy(0, rows, found.to(logits.dtype))
        return logits
