"""The part of docs/performance.md about a second rank: what it brings, what the machine allows, and where the rest goes."""

from collections.abc import Mapping, Sequence
from statistics import median

from benchmarks.figures import spread
from benchmarks.more_ranks import HELD, MOVED
from benchmarks.peer_runs import ALONE, ONE_CORE, OURS, Run, is_clean

BATCH = 4096
"""Of the peers' benchmark."""
BOUNDS = "two that exchange nothing : one | two in step that exchange nothing : one"
Ceilings = Mapping[tuple[str, int], Run]
"""What `benchmarks.ceiling` found, by model and rows of a process's step."""


def more_ranks(runs: Sequence[Run], cores: int, ceilings: Sequence[Run], steps: Sequence[Run]) -> str:
    """The whole part; empty where nothing of it was measured.

    Args:
        runs: Runs of the peers' benchmark.
        cores: Of the machine that they ran on.
        ceilings: What `benchmarks.ceiling` found.
        steps: What `benchmarks.more_ranks` found.
    """
    limits = {(limit["model"], limit["rows_per_step"]): limit for limit in ceilings}
    parts = [halves(runs, cores, limits), equal_rows(steps, limits), account(steps)]
    if not any(parts):
        return ""
    head = (
        "## Two ranks against one, one thread each\n\n"
        "Beside each ratio stands what this machine allows: the rate of two processes that take the same steps side by side, on rows"
        " in memory, and exchange nothing, against that of one (`python -m benchmarks.ceiling`). Where it is below 2, the two share"
        " something that both need: caches, memory, or the arithmetic units of one core. Then the same for two that wait for each other"
        " after every step, still without a number exchanged, as none of the ranks that train one model in step can do without: what"
        " they lose against those that do not wait is that steps differ in length. Ours lose the exchange besides. The one rank"
        " that they are held to here reads no rows; held to one core and reading, it is a few per cent slower."
    )
    return "\n\n".join([head, *(part for part in parts if part)])


def halves(runs: Sequence[Run], cores: int, limits: Ceilings) -> str:
    """The batch of the peers' benchmark, dealt to two ranks, against one rank that has it all."""
    lines = []
    for model, rows, vocab in sorted({(run["model"], run["rows"], run["vocab"]) for run in runs}):
        rates: dict[str, dict[int, float]] = {OURS: {}, ALONE: {}, ONE_CORE: {}}
        for run in runs:
            if (
                run["peer"] in rates
                and is_clean(run, cores)
                and (run["model"], run["rows"], run["vocab"]) == (model, rows, vocab)
            ):
                rates[run["peer"]][run["rep"]] = run["steady_sps"]
        ours = rates[OURS]
        against = {peer: _ratios(ours, rates[peer]) for peer in (ALONE, ONE_CORE)}
        if any(against.values()):
            whole, half = limits.get((model, BATCH)), limits.get((model, BATCH // 2))
            bounds = " | ".join(
                f"{whole['alone_ms'] / half[name]:.2f}" if whole and half and name in half else "-"
                for name in ("together_ms", "in_step_ms")
            )
            lines.append(
                f"| {model} | {vocab:,} | {spread(rates[ALONE].values(), '{:,.0f}')} | {spread(against[ALONE], '{:.2f}')} | "
                f"{spread(against[ONE_CORE], '{:.2f}')} | {bounds} |"
            )
    return _table(
        f"### {BATCH:,} rows in a step, by one rank or in two halves",
        "One rank alone reads and decodes its rows on the core that the second rank would have; held to one core, it does that on its"
        " own, as each of two ranks does. Half as many rows cost more than half as much: a step has a fixed cost, and of the"
        " ids that repeat each half has its own.",
        f"| model | ids | samples/s of one rank | two ranks : one | two ranks : one on one core | {BOUNDS} |",
        lines,
    )


def equal_rows(steps: Sequence[Run], limits: Ceilings) -> str:
    """Ranks that each have as many rows in a step as the one has alone."""
    rates: dict[tuple[str, int, int], dict[tuple[int, tuple[str, ...]], dict[int, float]]] = {}
    for run in steps:
        key, shape = (run["model"], run["ids"], run["rows"]), (run["ranks"], tuple(run["options"]))
        rates.setdefault(key, {}).setdefault(shape, {})[run["rep"]] = run["samples_per_second"]
    lines = []
    for (model, ids, rows), of in sorted(rates.items()):
        one, held, two, moved = (of.get(shape, {}) for shape in ((1, ()), (1, HELD), (2, ()), (2, MOVED)))
        against = [_ratios(*pair) for pair in ((two, one), (two, held), (moved, held))]
        if any(against):
            limit = limits.get((model, rows), {})
            bounds = [f"{limit[name]:.2f}" if name in limit else "-" for name in ("ceiling", "in_step")]
            cells = [spread(one.values(), "{:,.0f}"), *(spread(ratios, "{:.2f}") for ratios in against), *bounds]
            lines.append(f"| {model} | {ids:,} | {rows:,} | {' | '.join(cells)} |")
    return _table(
        "### As many rows for each rank as the one has",
        "As where ranks are added to train on more data (`python -m benchmarks.more_ranks`, in turns). One rank held to one core reads"
        " and decodes its rows there, as each of two does, which keep to a core each (`bind_to_cores`); moved: the two where the"
        " system puts them.",
        "| model | ids | rows of a rank's step | samples/s of one rank | two ranks : one | two ranks : one on one core | moved : one on one core | "
        f"{BOUNDS} |",
        lines,
    )


def _ratios(over: Mapping[int, float], under: Mapping[int, float]) -> list[float]:
    """Of each repetition that has both."""
    return [over[rep] / under[rep] for rep in over if rep in under]


def account(steps: Sequence[Run]) -> str:
    """Milliseconds of each phase: of the batch by one rank, of half of it by one rank, and of two halves by two."""
    shapes = ((1, BATCH), (1, BATCH // 2), (2, BATCH // 2))
    lines = []
    for model, ids in sorted({(run["model"], run["ids"]) for run in steps}):
        for ranks, rows in shapes:
            of = [
                run["step_ms"]
                for run in steps
                if (run["model"], run["ids"], run["ranks"], run["rows"], run["options"])
                == (model, ids, ranks, rows, [])
            ]
            if of:
                phases = [median(each[name] for each in of) for name in of[0]]
                parts = " | ".join(f"{phase:.1f}" for phase in (*phases, sum(phases)))
                lines.append(f"| {model} | {ids:,} | {ranks} x {rows:,} | {parts} |")
    names = " | ".join(steps[0]["step_ms"]) if steps else ""
    return _table(
        "### Where a step's time goes",
        "Milliseconds, of the rank that the other waits for. From the first line to the second half the rows are gone, from the second"
        " to the third comes the other rank: the exchange, rows that the other has touched, and the machine's caches shared.",
        f"| model | ids | ranks x rows | {names} | all |",
        lines,
    )


def _table(title: str, text: str, head: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    return "\n".join([title, "", text, "", head, "|" + "---|" * (head.count("|") - 1), *lines])
