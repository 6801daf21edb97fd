"""The contract of a log's columns, as checks of rows and as constraints of the table that the good ones go to."""

from typing import Any

from pyspark.sql import functions as F

from ecdctr.config.dataset import ColumnContract, DatasetConfig
from ecdctr.etl.source import column


def checks(dataset: DatasetConfig, domain: str) -> list[tuple[str, Any]]:
    """What to say of a bad row, and the condition over typed rows that it is one."""
    found: list[tuple[str, Any]] = []
    for name, rule in _rules(dataset, domain):
        value = column(name)
        if rule.required:
            found.append((f"{name} is missing, but required", value.isNull()))
        if rule.values is not None:
            found.append((f"{name} is none of the values of its contract", ~value.isin(rule.values)))
        if rule.min is not None or rule.max is not None:
            # To Spark, what is not a number is greater than any.
            outside = F.isnan(value)
            if rule.min is not None:
                outside |= value < rule.min
            if rule.max is not None:
                outside |= value > rule.max
            found.append((f"{name} is outside {_range(rule)}", outside))
    return found


def constraints(dataset: DatasetConfig, domain: str) -> dict[str, str]:
    """The same as table properties; each holds for null, which nullability decides on."""
    found = {}
    for place, (name, rule) in enumerate(_rules(dataset, domain)):
        quoted = "`" + name.replace("`", "``") + "`"
        parts = []
        if rule.values is not None:
            listed = ", ".join("'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'" for value in rule.values)
            parts.append(f"{quoted} IN ({listed})")
        if rule.min is not None or rule.max is not None:
            parts.append(f"NOT isnan({quoted})")
        if rule.min is not None:
            parts.append(f"{quoted} >= {rule.min!r}D")
        if rule.max is not None:
            parts.append(f"{quoted} <= {rule.max!r}D")
        if parts:
            found[f"delta.constraints.contract_{place}"] = f"{quoted} IS NULL OR ({' AND '.join(parts)})"
    return found


def required(dataset: DatasetConfig, domain: str) -> set[str]:
    """Columns that no row of a domain may lack."""
    return {name for name, rule in _rules(dataset, domain) if rule.required}


def _rules(dataset: DatasetConfig, domain: str) -> list[tuple[str, ColumnContract]]:
    return [(name, rule) for name, rule in dataset.contract.items() if domain in rule.domains]


def _range(rule: ColumnContract) -> str:
    low = "(-∞" if rule.min is None else f"[{rule.min:g}"
    high = "∞)" if rule.max is None else f"{rule.max:g}]"
    return f"{low}, {high}"
