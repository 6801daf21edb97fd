"""What every model is: tables of embeddings, a network, and `forward(batch) -> logits`."""

import functools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ecdctr.data.batch import Batch
from ecdctr.features import FeatureSet
from ecdctr.features.domains import AD
from ecdctr.nn.embedding import EmbeddingTables
from ecdctr.nn.normalization import DistributedBatchNorm, Reducer


def added(parts: Sequence[Tensor]) -> Tensor:
    """One after the other: most lists have no attributes, and one part is its own sum."""
    return functools.reduce(torch.add, parts)


class CTRModel(nn.Module):
    """A click model without optimiser, loop or storage.

    Args:
        features: The sample's contract.
        rows: Known rows of each vocabulary.
        embedding_dim: D.
        seed: Of all initial values.
    """

    mlp: nn.Module
    """Ends with the layer that gives the logit."""
    first_order = False
    """Whether the last number of a row is a weight of its own, and no part of its vector."""

    def __init__(self, features: FeatureSet, rows: Mapping[str, int], embedding_dim: int, seed: int) -> None:
        super().__init__()
        self.features = features
        self.tables = EmbeddingTables(
            {name: rows[name] for name in features.vocabularies}, features.oov_buckets, embedding_dim, seed
        )

    def embed(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Vectors of all id fields `(B, F, D)` and of each sequence `(B, T, D)`, in one look-up."""
        (fields,), sequences = self.embed_columns(batch, [self.tables.dim])
        return fields, {name: vectors for name, (vectors,) in sequences.items()}

    def embed_columns(
        self, batch: Batch, widths: Sequence[int]
    ) -> tuple[tuple[Tensor, ...], dict[str, tuple[Tensor, ...]]]:
        """`embed`, in blocks of so many columns, which sum to D, each a tensor of its own."""
        features, tables = self.features, self.tables
        fields = tables.places(batch.ids, *(features.vocabulary_of[name] for name in features.id_fields))
        histories = [tables.places(ids, features.vocabulary_of[name]) for name, ids in batch.sequences.items()]
        training = self.training and torch.is_grad_enabled()
        vectors = tables.lookup_columns([fields, *histories], widths, training=training)
        return vectors[0], dict(zip(batch.sequences, vectors[1:], strict=True))

    def twin_tables(self) -> list[EmbeddingTables]:
        """Further tables with the same vocabularies, which a forward pass reads and no step changes."""
        return []

    def attach(self, reducer: Reducer) -> None:
        """Let normalisation see the global batch."""
        for module in self.modules():
            if isinstance(module, DistributedBatchNorm):
                module.reducer = reducer

    def network_state(self) -> dict[str, Tensor]:
        """Parameters and buffers of the network, without the tables."""
        return {name: tensor.detach() for name, tensor in self.state_dict().items()}

    def load_network_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over a network of the same structure."""
        self.load_state_dict(dict(state))

    def output_bias(self, domain: int) -> Tensor:
        """The bias `(1,)` of the logits of one domain's rows; a model with one head has one for all."""
        return self.last_bias(self.mlp)

    @staticmethod
    def last_bias(network: nn.Module) -> Tensor:
        """The bias of a network's last linear layer."""
        return [module for module in network.modules() if isinstance(module, nn.Linear)][-1].bias

    def shift_logits(self, amount: float, domain: int = AD) -> None:
        """Add a constant to the logits of a domain: the output bias then states another click rate at once.

        A rare click would otherwise cost the first hundreds of steps for this one number.
        """
        with torch.no_grad():
            self.output_bias(domain).add_(amount)

    def penalty(self) -> Tensor | None:
        """What each row `(B,)` of the last training batch costs beside its log loss, in nats; None: nothing."""
        return None

    def stepped(self) -> None:
        """A training step is taken: told once, however many parts its rows were cut into."""

    def forward(self, batch: Batch) -> Tensor:
        """Logits `(B,)`."""
        raise TypeError(f"{type(self).__name__} defines no forward")
