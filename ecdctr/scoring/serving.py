"""A model as it serves: tables and aggregated historical embeddings are tensors of one graph from encoded columns to probability."""

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecdctr.data.batch import Batch
from ecdctr.features import FeatureSet
from ecdctr.features.encoding import FIRST_BUCKET
from ecdctr.models.base import CTRModel
from ecdctr.models.full import ENTITIES, FullModel
from ecdctr.nn.embedding import EmbeddingTables
from ecdctr.nn.policy import FixedPolicy
from ecdctr.transfer.aggregate import aggregate
from ecdctr.transfer.autoft import FIELD, AutoFT
from ecdctr.transfer.frozen_tower import FrozenTower
from ecdctr.transfer.snapshots import HistoricalEmbeddings


class ServedTables(EmbeddingTables):
    """Tables whose matrix is a parameter of the graph; several may share rows of it.

    Args:
        tables: Those that they stand for.
        matrix: Rows of all vocabularies that are served.
        offsets: Where in it each vocabulary begins.
    """

    def __init__(self, tables: EmbeddingTables, matrix: nn.Embedding, offsets: Mapping[str, int]) -> None:
        super().__init__(tables.rows, tables.oov_buckets, tables.dim, tables.seed)
        self.matrix, self.offsets = matrix, dict(offsets)

    def places(self, ids: Tensor, *vocabularies: str) -> Tensor:
        """See `EmbeddingTables.places`; without asking whether there is a late id."""
        named = [(self.rows[name], self.oov_buckets[name], self.offsets[name]) for name in vocabularies]
        rows, buckets, offsets = torch.tensor(named).unbind(1)
        bucket = FIRST_BUCKET + (ids - FIRST_BUCKET) % buckets
        return torch.where(ids >= rows, bucket, ids) + offsets

    def lookup_columns(
        self, places: Sequence[Tensor], widths: Sequence[int], *, training: bool
    ) -> list[tuple[Tensor, ...]]:
        """See `EmbeddingTables.lookup_columns`; nothing is learned."""
        return [self.matrix(place).split(list(widths), -1) for place in places]


class AggregatedHistory(nn.Module):
    """The field vector of an id, computed beforehand, where a training model pools snapshots.

    Args:
        vectors: `(R, D)`; the last row is that of every id without a history.
    """

    def __init__(self, vectors: nn.Embedding) -> None:
        super().__init__()
        # In a tuple, which torch does not look into: the graph's root owns what two ways may share.
        self._vectors = (vectors,)

    def forward(self, ids: Tensor, _: Tensor) -> Tensor:
        """`(B,)` → `(B, D)`."""
        (vectors,) = self._vectors
        found: Tensor = vectors(ids.clamp_max(vectors.num_embeddings - 1))
        return found


class ServingModel(nn.Module):
    """Encoded columns of a request → click probabilities; a graph of fixed operations for any number of rows.

    Args:
        model: A trained model, in evaluation; it is taken over and no longer a model to train or to store.
        history: What it reads of historical embeddings; None: nothing.
        day: Day of the requests, days since 1970: which snapshots are aggregated.
    """

    def __init__(self, model: CTRModel, history: HistoricalEmbeddings | None, day: int) -> None:
        super().__init__()
        self.model, self.features = model.eval(), model.features
        self.ways = nn.ModuleList()
        """What the model's own modules do not contain: AutoFT's frozen twin."""
        self.held = nn.ModuleDict()
        """Weights that several ways may share, each once."""
        self.doubled: set[str] = set()
        """Vocabularies that both ways have rows of their own of."""
        self.single_histories: dict[str, int] = {}
        """Historical fields of which one table serves all ways, and its numbers."""
        if isinstance(model, AutoFT):
            self.ways.append(model.frozen)
            fields = _fields_of_the_twin(model)
            vocabularies = {name for field in fields for name in model.frozen.made_of(field)[0]}
            self._serve_tables([model.tuned, model.frozen], vocabularies)
            self._serve_history([model.tuned, model.frozen], history, day, fields)
        elif isinstance(model, FrozenTower):
            self._serve_tables([model.target])
            model.source.tables = model.target.tables
        else:
            self._serve_tables([model])
            if isinstance(model, FullModel):
                self._serve_history([model], history, day)
        self.requires_grad_(False)

    def _serve_tables(self, networks: Sequence[CTRModel], needed: Collection[str] = ()) -> None:
        """Put the tables of all ways into one matrix, of equal ones a single copy.

        Args:
            networks: The way that is trained, then its twin.
            needed: Vocabularies of which the twin's rows are looked at, where they differ.
        """
        parts: list[Tensor] = []
        offsets: list[dict[str, int]] = []
        at = 0
        for network in networks:
            own: dict[str, int] = {}
            for name, table in network.tables.tables().items():
                if offsets and (name not in needed or torch.equal(table, networks[0].tables.table(name))):
                    own[name] = offsets[0][name]
                    continue
                parts.append(table)
                own[name], at = at, at + len(table)
            offsets.append(own)
        matrix = nn.Embedding.from_pretrained(torch.cat(parts) if len(parts) > 1 else parts[0])
        self.held["tables"] = matrix
        for network, own in zip(networks, offsets, strict=True):
            network.tables = ServedTables(network.tables, matrix, own)
        self.doubled = {name for name in needed if offsets[-1][name] != offsets[0][name]}

    def _serve_history(
        self,
        networks: Sequence[FullModel],
        history: HistoricalEmbeddings | None,
        day: int,
        needed: Collection[str] = (),
    ) -> None:
        """Put what each way makes of all ids' snapshots in the place of what makes it; equal tables once.

        Args:
            networks: The way that is trained, then its twin.
            history: The snapshots.
            day: Of the requests.
            needed: Fields of which the twin's vector is looked at.
        """
        if history is None:
            return
        # One row more than any snapshot knows: everybody else's.
        rows = {entity: history.rows(entity) + 1 for entity in networks[0].pooling}
        for entity in rows:
            table: nn.Embedding | None = None
            for network in networks:
                if table is None or f"history.{entity}" in needed:
                    made = torch.cat([part for _, part in aggregate(network, history, entity, rows[entity], day)])
                    if table is None or not torch.equal(table.weight, made):
                        name = f"history_{entity}" if table is None else f"history_{entity}_frozen"
                        table = self.held[name] = nn.Embedding.from_pretrained(made)
                network.pooling[entity] = AggregatedHistory(table)
                network.projection[entity] = nn.Identity()
                if entity in network.history_gates:
                    network.history_gates.pop(entity)
            if table is self.held.get_submodule(f"history_{entity}"):
                self.single_histories[f"history.{entity}"] = table.weight.numel()

    def forward(self, columns: dict[str, Tensor]) -> Tensor:
        """Probabilities `(B,)` float32 of columns as `columns_of` names them."""
        features = self.features
        ids = torch.stack([columns[name] for name in features.id_fields], 1)
        rows = ids.shape[0]
        numbers = [columns[name] for name in features.number_fields]
        by_entity = dict(zip(ENTITIES, (features.user_field, features.item_field), strict=True))
        batch = Batch(
            ids=ids,
            numbers=torch.stack(numbers, 1) if numbers else torch.zeros(rows, 0),
            sequences={name: columns[name] for name in features.sequence_fields},
            label=torch.zeros(rows),
            weight=torch.ones(rows),
            day=torch.zeros(rows, dtype=torch.int64),
            # Where snapshots were, their look-up has the id.
            history={entity: (columns[name], columns[name]) for entity, name in by_entity.items()},
        )
        return torch.sigmoid(self.model(batch))


def columns_of(batch: Batch, features: FeatureSet) -> dict[str, Tensor]:
    """Rows as a serving model takes them: a column for each id and number, a full-length list for each sequence.

    Returns:
        `(B,)` int64 for each id field, `(B,)` float32 for each number, `(B, T)` int64 for each sequence, T its length in
        the sample contract.
    """
    columns = {name: batch.ids[:, at].to(torch.int64).contiguous() for at, name in enumerate(features.id_fields)}
    columns |= {name: batch.numbers[:, at].contiguous() for at, name in enumerate(features.number_fields)}
    for name, length in features.sequence_fields.items():
        there = batch.sequences[name].to(torch.int64)
        columns[name] = F.pad(there, (0, length - there.shape[1]))
    return columns


def _fields_of_the_twin(model: AutoFT) -> list[str]:
    """Fields of which the frozen vector decides something: all, which a policy looks at, else those that are open.

    Elsewhere the frozen way is multiplied with zero, and may as well read the tuned rows.
    """
    if not isinstance(model.policy, FixedPolicy):
        return model.frozen.field_names
    return [name.removeprefix(FIELD) for name in model.names if name.startswith(FIELD)]
