"""What every full model reads: id fields, numbers, lists, attended click histories, historical embeddings."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypedDict

import torch
from torch import Tensor, nn

from ecdctr.config.schema import PoolingMode
from ecdctr.data.batch import Batch
from ecdctr.exceptions import TrainingError
from ecdctr.features import FeatureSet
from ecdctr.features.encoding import PADDING
from ecdctr.models.base import CTRModel, added
from ecdctr.nn.attention import TargetAttention
from ecdctr.nn.field_gate import FieldGate
from ecdctr.nn.sequence_pooling import mean_of_clicks
from ecdctr.nn.snapshot_pooling import SnapshotPooling

ENTITIES = ("user", "item")

Inputs = tuple[Tensor, Tensor]
"""Field vectors `(B, F', D)` and first-order weights `(B, F)`, as `FullModel.inputs` gives them."""


def _layers(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    chain = getattr(module, "chain", None)
    parts = chain() if chain is not None else list(module) if isinstance(module, nn.ModuleList) else None
    if parts is not None:
        for number, part in enumerate(parts):
            yield from _layers(f"{name}.{number}", part)
    elif any(True for _ in module.parameters()):
        yield name, module


class InputOptions(TypedDict, total=False):
    """What decides the inputs of a `FullModel`: options of every backbone, passed on as they are."""

    history_dim: int | None
    embedding_dim: int
    snapshot_pooling: PoolingMode
    history_count: int
    history_gate: bool
    history_dropout: float


class AttendedInputOptions(InputOptions, total=False):
    """The same for backbones that attend to click sequences."""

    attention_hidden_units: Sequence[int]


class FullModel(CTRModel):
    """A model that can be CPM and A-CTR: every input becomes a field vector of one length, whatever interacts them.

    Fields stand in this order: id fields, one vector per list (the interest of a click sequence, the mean of any other),
    then, with snapshots, the aggregated historical embeddings of the user and of the item (E-CDCTR, arXiv 2408.16238).

    Args:
        features: The sample's contract.
        rows: Known rows of each vocabulary.
        seed: Of all initial values.
        history_dim: Length of historical vectors; None: the model reads none.
        embedding_dim: D.
        attention_hidden_units: Of the attention's scoring network; None: the mean of the clicks instead of attention.
        snapshot_pooling: How snapshots become one vector.
        history_count: K, snapshots of an id; only pooling by concatenation asks for it.
        history_gate: Whether a learned gate scales each row's historical vectors, from taking them whole at the start.
        history_dropout: How likely a row trains with the vector of the unknown in place of its user's history, and, drawn for
            itself, of its item's.
        first_order: Whether each id has a further weight of its own beside its vector.

    Attributes:
        reroute: What a policy makes of the inputs before anything else reads them; None: nothing.
    """

    def __init__(
        self,
        features: FeatureSet,
        rows: Mapping[str, int],
        *,
        seed: int,
        history_dim: int | None = None,
        embedding_dim: int = 16,
        attention_hidden_units: Sequence[int] | None = (32,),
        snapshot_pooling: PoolingMode = "attention",
        history_count: int = 1,
        history_gate: bool = False,
        history_dropout: float = 0.0,
        first_order: bool = False,
    ) -> None:
        super().__init__(features, rows, embedding_dim + first_order, seed)
        self.embedding_dim, self.first_order = embedding_dim, first_order
        self.attentions = nn.ModuleDict()
        if attention_hidden_units is not None:
            for name in features.list_fields:
                if name in features.attention:
                    self.attentions[name] = TargetAttention(embedding_dim, attention_hidden_units)
        self.pooling = nn.ModuleDict()
        self.projection = nn.ModuleDict()
        self.history_gates = nn.ModuleDict()
        if history_dim is not None:
            for entity in ENTITIES:
                pooling = SnapshotPooling(history_dim, snapshot_pooling, history_count, history_dropout)
                projection = nn.Linear(pooling.width, embedding_dim, bias=False)
                # Begins as the historical vector itself; of several snapshots side by side, as their mean.
                parts = pooling.width // history_dim
                with torch.no_grad():
                    projection.weight.copy_(torch.eye(embedding_dim, history_dim).repeat(1, parts) / parts)
                self.pooling[entity], self.projection[entity] = pooling, projection
                if history_gate:
                    self.history_gates[entity] = FieldGate(embedding_dim)
        self._makes_inputs = tuple(name for name, _ in self.named_children())
        self.reroute: Callable[[Inputs], Inputs] | None = None
        self.fields = len(features.id_fields) + len(features.list_fields) + len(self.pooling)
        self.width = self.fields * embedding_dim + len(features.number_fields)

    @property
    def field_names(self) -> list[str]:
        """Names of the field vectors in their order."""
        histories = [f"history.{entity}" for entity in self.pooling]
        return [*self.features.id_fields, *self.features.list_fields, *histories]

    def input_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of what makes the field vectors; the tables are none."""
        for name in self._makes_inputs:
            yield from self.get_submodule(name).parameters()

    def made_of(self, field: str) -> tuple[set[str], list[str]]:
        """The vocabularies whose rows make a field vector, and the names of the modules that make it of them."""
        vocabulary_of = self.features.vocabulary_of
        if field in self.features.id_fields:
            return {vocabulary_of[field]}, []
        if field in self.features.list_fields:
            own = {vocabulary_of[column] for column in (field, *self.features.attributes(field))}
            if field not in self.attentions:
                return own, []
            return own | {vocabulary_of[other] for other in self._compared(field)}, [f"attentions.{field}"]
        entity = field.removeprefix("history.")
        gate = [f"history_gates.{entity}"] if entity in self.history_gates else []
        return set(), [f"pooling.{entity}", f"projection.{entity}", *gate]

    def layers(self) -> dict[str, nn.Module]:
        """What turns inputs into the logit, layer by layer, in the order of the backbone's attributes.

        A module with a `chain()` of layers gives each of them, a list of modules each of its modules; any other module
        with parameters is one layer.
        """
        after_inputs = ((name, child) for name, child in self.named_children() if name not in self._makes_inputs)
        return {name: layer for child_name, child in after_inputs for name, layer in _layers(child_name, child)}

    def inputs(self, batch: Batch) -> Inputs:
        """Everything that the model reads of a batch.

        Returns:
            Field vectors `(B, F', D)`, and first-order weights of the id fields `(B, F)`; those have no column
            without `first_order`.
        """
        widths = [self.embedding_dim, self.tables.dim - self.embedding_dim]
        (vectors, weights), looked_up = self.embed_columns(batch, widths)
        lists = {name: own for name, (own, _) in looked_up.items()}
        interests = [self._one_vector(name, lists, vectors, batch) for name in self.features.list_fields]
        extra = [*interests, *(self.historical(entity, *self._snapshots(batch, entity)) for entity in self.pooling)]
        fields = torch.cat([vectors, torch.stack(extra, 1)], 1) if extra else vectors
        made = fields, weights.flatten(1)
        return made if self.reroute is None else self.reroute(made)

    def _one_vector(self, name: str, lists: Mapping[str, Tensor], vectors: Tensor, batch: Batch) -> Tensor:
        """The vector `(B, D)` that stands for a list: attended by the impression's own item and attributes, or the mean.

        Attributes of clicks and times are added to the items' vectors, and the impression's attributes to its item's.
        """
        columns = [name, *self.features.attributes(name)]
        there = batch.sequences[name] != PADDING
        past = added([lists[column] for column in columns])
        if name not in self.attentions:
            return mean_of_clicks(past, there)
        target = added([vectors[:, self.features.id_fields.index(field)] for field in self._compared(name)])
        interest: Tensor = self.attentions[name](target, past, there)
        return interest

    def _compared(self, name: str) -> list[str]:
        """The id fields of the impression that together attend to a click sequence and its attributes."""
        attention = self.features.attention
        return [attention[column] for column in (name, *self.features.attributes(name)) if column in attention]

    def historical(self, entity: str, snapshots: Tensor, present: Tensor) -> Tensor:
        """The aggregated historical embedding as a field vector.

        Args:
            entity: `user` or `item`.
            snapshots: `(B, K, history_dim)`, newest first.
            present: `(B, K)`, which of them know the id.

        Returns:
            `(B, D)`.
        """
        vector: Tensor = self.projection[entity](self.pooling[entity](snapshots, present))
        return self.history_gates[entity](vector) if entity in self.history_gates else vector

    @staticmethod
    def _snapshots(batch: Batch, entity: str) -> tuple[Tensor, Tensor]:
        if entity not in batch.history:
            raise TrainingError(
                f"the batch has no historical embeddings of its {entity}s, which the model reads",
                hint="attach them with HistoricalEmbeddings.attach, or build the model with history_dim=None",
            )
        return batch.history[entity]
