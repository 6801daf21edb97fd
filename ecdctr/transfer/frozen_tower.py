"""A frozen source network beside the ad model, joined by gated adapters (the CTNet family, arXiv 2208.05728)."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from ecdctr.data.batch import Batch
from ecdctr.features.feature_set import SOURCE
from ecdctr.models.base import CTRModel
from ecdctr.models.full import FullModel
from ecdctr.nn.embedding import EmbeddingTables
from ecdctr.nn.gated_adapter import GatedAdapter
from ecdctr.nn.mlp import MLP
from ecdctr.nn.seeding import seeded
from ecdctr.nn.stored_rows import StoredRows

Layer = tuple[str, nn.ReLU, int]
"""Name, activation and width of a hidden layer."""


class FrozenTower(CTRModel):
    """h_l = ReLU(target layer l) + adapter_l(h_l of the source): every hidden layer of an MLP has one adapter.

    The source network reads the same rows, in evaluation, and never changes; its rows lie in the same fused tables under
    names of their own, and are never touched.

    Args:
        target: The ad model, which learns.
        source: Its twin, built with the features `of_source`.
    """

    def __init__(self, target: FullModel, source: FullModel) -> None:
        # Not CTRModel's: the tables are those of two networks.
        nn.Module.__init__(self)
        self.features = target.features
        ours, theirs = target.tables, source.tables
        self.tables = EmbeddingTables(
            ours.rows | theirs.rows, ours.oov_buckets | theirs.oov_buckets, ours.dim, ours.seed
        )
        self.tables.dims = ours.dims | theirs.dims
        target.tables = source.tables = self.tables
        self.target, self.source = target, source
        self.adapters = nn.ModuleDict()
        self._hidden: dict[str, Tensor] = {}
        # Drawn from the tables' seed alone: ranks agree without a broadcast.
        with seeded(self.tables.seed):
            self._join(hidden_layers(target), hidden_layers(source))
        source.requires_grad_(False)
        self.train()

    def _join(self, target: Iterable[Layer], source: Iterable[Layer]) -> None:
        for (name, activation, width), (_, twin, _) in zip(target, source, strict=True):
            key = name.replace(".", "_")
            self.adapters[key] = GatedAdapter(width)
            twin.register_forward_hook(self._keep(key))
            activation.register_forward_hook(self._add(key))

    def _keep(self, key: str) -> Any:
        def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
            self._hidden[key] = output

        return keep

    def _add(self, key: str) -> Any:
        def add(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            taken: Tensor = self.adapters[key](self._hidden.pop(key))
            return output + taken

        return add

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all but the source network, which stays in evaluation."""
        super().train(mode)
        self.source.eval()
        return self

    def load_source(self, network: Mapping[str, Tensor], tables: Mapping[str, Tensor | StoredRows]) -> None:
        """Take over the source network's parameters, buffers and tables, as its own version names them."""
        self.source.load_network_state(network)
        for name, table in tables.items():
            self.tables.load_table(SOURCE + name, table)

    def output_bias(self, domain: int) -> Tensor:
        """See `CTRModel.output_bias`."""
        return self.target.output_bias(domain)

    def forward(self, batch: Batch) -> Tensor:
        """Logits `(B,)`."""
        with torch.no_grad():
            self.source(batch)
        logits: Tensor = self.target(batch)
        return logits


def hidden_layers(model: FullModel) -> Iterator[Layer]:
    """Hidden layers of all MLPs that see one vector per row: name, activation, and width.

    The scoring networks of target attention are left out: they see one vector per click.
    """
    for name, module in model.named_modules():
        if not isinstance(module, MLP) or name.startswith("attentions."):
            continue
        width = 0
        for place, layer in enumerate(module.layers):
            if isinstance(layer, nn.Linear):
                width = layer.out_features
            elif isinstance(layer, nn.ReLU):
                yield f"{name}.{place}", layer, width
