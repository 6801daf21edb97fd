"""CPM → A-CTR: every parameter copied by name, batch normalisation re-initialised."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from ecdctr.exceptions import TrainingError
from ecdctr.models.base import CTRModel
from ecdctr.nn.normalization import DistributedBatchNorm
from ecdctr.nn.stored_rows import StoredRows


@dataclass(frozen=True)
class TransferReport:
    """What happened to each parameter, by name."""

    copied: list[str] = field(default_factory=list)
    grown: list[str] = field(default_factory=list)
    reinitialised: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def warm_start(
    model: CTRModel,
    network: Mapping[str, Tensor],
    tables: Mapping[str, Tensor | StoredRows],
    batch_norm: Literal["keep", "statistics", "full"],
) -> TransferReport:
    """Copy a pre-trained twin's parameters into a model.

    Args:
        model: The ad model, freshly built.
        network: Parameters and buffers of the twin.
        tables: Its embedding tables; those of the model may have more rows, which keep their fresh values.
        batch_norm: `keep` copies everything; `statistics` begins running statistics anew; `full` the affine part, too.

    Raises:
        TrainingError: A name or a shape that the two do not share.
    """
    own = model.network_state()
    _same_names("parameters", set(own), set(network))
    _same_names("embedding tables", set(model.tables.rows), set(tables))
    wrong = [name for name, tensor in network.items() if own[name].shape != tensor.shape]
    wrong += [name for name, t in tables.items() if t.shape[1] != model.tables.dim or len(t) > model.tables.rows[name]]
    if wrong:
        raise TrainingError(f"shapes differ for {', '.join(wrong)}", hint="CPM and A-CTR must share one model section")
    model.load_network_state(network)
    report = TransferReport()
    for name, table in tables.items():
        grown = model.tables.load_table(name, table)
        (report.grown if grown else report.copied).append(f"tables.{name}")
    fresh = _reinitialise(model, batch_norm)
    report.copied.extend(sorted(set(network) - fresh))
    report.reinitialised.extend(sorted(fresh))
    return report


def _same_names(kind: str, own: set[str], given: set[str]) -> None:
    if own != given:
        raise TrainingError(
            f"{kind} do not fit: missing {sorted(own - given)}, unexpected {sorted(given - own)}",
            hint="CPM and A-CTR must share one model section and one set of features",
        )


def _reinitialise(model: CTRModel, batch_norm: str) -> set[str]:
    """Begin batch normalisation anew; returns the names of what changed."""
    names: set[str] = set()
    for name, module in model.named_modules():
        if not isinstance(module, DistributedBatchNorm) or batch_norm == "keep":
            continue
        names |= {f"{name}.{buffer}" for buffer in ("running_mean", "running_var", "num_batches_tracked")}
        if batch_norm == "full":
            module.reset_parameters()
            names |= {f"{name}.weight", f"{name}.bias"}
        else:
            module.reset_running_stats()
    return names
