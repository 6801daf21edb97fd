"""Runs of `benchmarks.scale` → docs/scale.md: the model, what was measured, the fit, and what it predicts."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy.optimize import nnls

from benchmarks.link_model import LinkConstants, fit_links, link_seconds
from benchmarks.link_page import over_links
from benchmarks.scale_model import (
    EXCHANGES,
    Constants,
    Workload,
    bytes_per_step,
    drawn,
    memory,
    received,
    seconds_per_step,
    updated,
)

Run = dict[str, Any]
CLUSTERS = (8, 64, 512)
VOCABULARIES = (10**8, 10**9, 10**10)
LOGS = (10**9, 10**10, 10**11, 10**12)

MODEL = """## The model

N ranks, b rows of a step on each, F ids per row, tables of V rows with D numbers and s numbers of optimiser state, P parameters
of the network. u is the expected number of distinct table rows among the b · F look-ups of a rank, U that of all ranks together; n
is the bytes of a row number, 4 up to 2^31 rows, else 8 (of all rows where replicated, of a rank's rows where sharded).

| of a rank | replicated | row_wise |
|---|---|---|
| bytes of tables | 4 V (D + s) | 4 V (D + s) / N |
| bytes sent per step, network | 2 (N − 1)/N · 4 P | the same |
| … look-up | 0 | (N − 1)/N · u (n + 4 D) |
| … gradients of rows | (N − 1) u (4 D + n) | (N − 1)/N · u (4 D + n) |
| rows merged per step | N u | u |
| rows updated per step | U | U / N |
| initial values drawn, rows | V | V / N |

So what replicated tables send and merge grows with N, and what sharded ones do does not; sharded ones pay two more exchanges in
every forward pass, which no compute hides yet. A unit test counts the bytes of a real step and holds the formulas to them."""


def page(
    found: dict[str, Any], link_gbit: float, delay_microseconds: float = 0.0, links: dict[str, Any] | None = None
) -> str:
    """The whole page.

    Args:
        found: As `benchmarks.scale.measure` returns it.
        link_gbit: Of each rank of the predicted clusters.
        delay_microseconds: Between any two of their ranks.
        links: As `benchmarks.links` keeps it; None: it was not run.
    """
    cores = found["machine"]["cores"]
    constants = fit(found, cores)
    between = fit_links(links["runs"]) if links else LinkConstants()
    return "\n\n".join(
        [
            "# Scale beyond one machine",
            f"Written by `make bench-scale`; every number below was measured by it on {cores} cores, or follows from what was. Load average "
            f"of the machine before and after: {found['machine']['load'][0]:.1f}, {found['machine']['load'][1]:.1f}; above the number of ranks, "
            "others were at work beside it, and waits for exchanges are longer than they need be. One thread per rank. Ranks beyond the cores share them: their times are divided by ranks / cores before they are compared.",
            MODEL,
            measured(found, cores),
            fitted(constants, found),
            checked(found["runs"], constants, cores),
            *over_links(links, constants, between, cores),
            predicted(found, constants, between, link_gbit, delay_microseconds),
        ]
    )


def workload(run: Run) -> Workload:
    """The run's own."""
    return Workload(**run["work"])


def share(run: Run, cores: int) -> float:
    """What part of its wall time a rank would have had with a core of its own."""
    return min(1.0, cores / run["ranks"])


def forward(run: Run) -> float:
    """Seconds of a step from ids to logits; runs of earlier releases have the look-up within the forward pass."""
    return float(run["phases"].get("lookup", 0.0) + run["phases"]["forward"])


def fit(found: dict[str, Any], cores: int) -> Constants:
    """Constants that are no smaller than zero, by least squares over the runs whose ranks each had a core."""
    runs = [run for run in found["runs"] if run["ranks"] <= cores]
    alone = [run for run in runs if run["ranks"] == 1] or runs
    several = [run for run in runs if run["ranks"] > 1]
    step, compute = line(
        [workload(run).batch for run in alone], [forward(run) + run["phases"]["backward"] for run in alone]
    )
    update = mean(run["phases"]["update"] / updated(workload(run), run["ranks"], run["exchange"]) for run in runs)
    pairs = [
        (sharded, whole)
        for sharded in several
        for whole in several
        if sharded["exchange"] == "row_wise"
        and whole["exchange"] == "replicated"
        and (sharded["ranks"], sharded["work"]) == (whole["ranks"], whole["work"])
    ]
    round_, merge = line(
        [received(workload(run), run["ranks"], run["exchange"]) for run in several],
        [run["phases"]["exchange"] for run in several],
    )
    fetch_round, fetch = line(
        [workload(one).distinct() for one, _ in pairs],
        [forward(one) - forward(other) for one, other in pairs],
    )
    return Constants(step, compute, update, round_, merge, fetch_round, fetch, found["init_seconds_per_id"])


def line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Intercept and slope, neither below zero; zeros of no points."""
    if not x:
        return 0.0, 0.0
    scale = max(x)
    (intercept, slope), _ = nnls(np.array([[1.0, value / scale] for value in x]), np.maximum(np.array(y), 0.0))
    return float(intercept), float(slope) / scale


def mean(values: Iterable[float]) -> float:
    """Of at least one value."""
    found = list(values)
    return sum(found) / len(found)


def measured(found: dict[str, Any], cores: int) -> str:
    """All runs."""
    lines = [
        "## Measured",
        "",
        f"DeepFM, F = {found['runs'][0]['work']['fields']}, D = {found['runs'][0]['work']['dim']}, "
        f"s = {found['runs'][0]['work']['state']}, P = {found['runs'][0]['work']['network']:,}; ids drawn evenly; of "
        f"{found['repeat']} runs the one with the shortest steps.",
        "",
        "| ids | b | ranks | tables | samples/s | ms per step: input | look-up | forward | backward | exchange | update | MB of tables on a rank | × one rank's | peak MB of a rank |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for run in found["runs"]:
        work = workload(run)
        times = " | ".join(
            f"{1e3 * run['phases'].get(phase, 0.0):.2f}"
            for phase in ("input", "lookup", "forward", "backward", "exchange", "update")
        )
        whole = memory(work, 1, "replicated")
        lines.append(
            f"| {work.ids:,} | {work.batch:,} | {run['ranks']} | {run['exchange']} | {run['samples_per_second'] or 0:,.0f} | {times} | "
            f"{run['table_bytes'] / 1e6:.1f} | {run['table_bytes'] / whole:.4f} | {run['peak_rss_bytes'] / 1e6:,.0f} |"
        )
    starts = "; ".join(
        f"{ranks} rank{'s' * (int(ranks) > 1)} {sum(parts.values()):.1f} s" for ranks, parts in found["startup"].items()
    )
    rounds = "; ".join(f"{ranks}: {value:.0f} µs" for ranks, value in found["all_reduce_microseconds"].items())
    read = found["read"]
    lines += [
        "",
        f"Start of the ranks: {starts}. One all-reduce of 256 floats by ranks: {rounds}. The reader alone: "
        f"{read['rows_per_second']:,.0f} rows/s in one process, {read['bytes_per_row']:.1f} bytes of Parquet per row.",
    ]
    return "\n".join(lines)


def fitted(constants: Constants, found: dict[str, Any]) -> str:
    """The constants."""
    return "\n".join(
        [
            "## Fitted",
            "",
            "| constant | value |",
            "|---|---|",
            f"| forward and backward of a step, whatever its size | {1e3 * constants.step:.2f} ms |",
            f"| forward and backward, per row | {1e6 * constants.compute:.2f} µs |",
            f"| update, per table row | {1e9 * constants.update:.0f} ns |",
            f"| an exchange of a step, whatever its size | {1e3 * constants.round:.2f} ms |",
            f"| merging, per row received | {1e9 * constants.merge:.0f} ns |",
            f"| a look-up of sharded rows, whatever its size | {1e3 * constants.fetch_round:.2f} ms |",
            f"| a look-up of sharded rows, per distinct row | {1e9 * constants.fetch:.0f} ns |",
            f"| initial values, per id | {1e9 * constants.init:.0f} ns |",
        ]
    )


def checked(runs: Sequence[Run], constants: Constants, cores: int) -> str:
    """Every run against the model."""
    lines = [
        "## Measured against the model",
        "",
        "| ids | b | ranks | tables | ms per step without input, measured | by the model | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        work = workload(run)
        took = sum(seconds for phase, seconds in run["phases"].items() if phase != "input") * share(run, cores)
        says = sum(seconds_per_step(constants, work, run["ranks"], run["exchange"]).values())
        lines.append(
            f"| {work.ids:,} | {work.batch:,} | {run['ranks']} | {run['exchange']} | {1e3 * took:.2f} | {1e3 * says:.2f} | {took / says:.2f} |"
        )
    return "\n".join(lines)


def predicted(
    found: dict[str, Any], constants: Constants, between: LinkConstants, link_gbit: float, delay_microseconds: float
) -> str:
    """Clusters that nobody here has: the same model, a core per rank, and a link per rank."""
    base, link, delay = workload(found["runs"][-1]), link_gbit * 1e9 / 8, delay_microseconds * 1e-6
    known = (
        "and the fitted constants."
        if between.crossings
        else "and the fitted constants; how often messages of a step wait for one another was not measured, so delays are not in it."
    )
    lines = [
        "## Predicted",
        "",
        f"The same model, b = {base.batch:,}, a core and {link_gbit:g} Gbit/s for each rank and {delay_microseconds:g} µs from one to another "
        f"(given, not measured here), {known}",
        "",
        "| ids | ranks | tables | GB of tables on a rank | MB sent per step and rank | ms per step | of that on links | samples/s | MB/s of Parquet per rank | minutes of initial values |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    pace: dict[tuple[int, str], float] = {}
    for ids in VOCABULARIES:
        for ranks in CLUSTERS:
            for exchange in EXCHANGES:
                work = base.at(ids)
                wire = link_seconds(between, work, ranks, exchange, link, delay)
                seconds = sum(seconds_per_step(constants, work, ranks, exchange).values()) + wire
                sent = sum(bytes_per_step(work, ranks, exchange).values())
                rate = ranks * work.batch / seconds
                if ids == VOCABULARIES[1]:
                    pace[ranks, exchange] = rate
                lines.append(
                    f"| {ids:.0e} | {ranks} | {exchange} | {memory(work, ranks, exchange) / 1e9:,.2f} | {sent / 1e6:,.2f} | "
                    f"{1e3 * seconds:,.1f} | {1e3 * wire:,.1f} | {rate:,.0f} | "
                    f"{work.batch / seconds * found['read']['bytes_per_row'] / 1e6:.2f} | {constants.init * drawn(work, ranks, exchange) / 60:,.1f} |"
                )
    lines += [
        "",
        f"Hours for one pass over a log, at {VOCABULARIES[1]:.0e} ids:",
        "",
        "| rows | TB of Parquet | " + " | ".join(f"{ranks} ranks, {exchange}" for ranks, exchange in pace) + " |",
        "|---" * (2 + len(pace)) + "|",
    ]
    for rows in LOGS:
        hours = " | ".join(f"{rows / rate / 3600:,.2f}" for rate in pace.values())
        lines.append(f"| {rows:.0e} | {rows * found['read']['bytes_per_row'] / 1e12:,.2f} | {hours} |")
    return "\n".join(lines)
