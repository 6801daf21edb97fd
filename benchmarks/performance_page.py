"""`peers.json` of the peers' benchmark → docs/performance.md: every figure there was printed by a run."""

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import spread
from benchmarks.more_ranks_page import more_ranks
from benchmarks.peer_runs import OURS, Run, is_clean

Key = tuple[str, int, int]


def main() -> None:
    """Write the page to stdout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, help="the JSON file that run_peers.py wrote")
    parser.add_argument("--ceiling", type=Path, help="the JSON file that benchmarks.ceiling wrote, if it has")
    parser.add_argument("--more-ranks", type=Path, help="the JSON file that benchmarks.more_ranks wrote, if it has")
    arguments = parser.parse_args()
    found = json.loads(arguments.runs.read_text(encoding="utf-8"))
    ceilings, steps = (
        json.loads(path.read_text(encoding="utf-8")) if path and path.exists() else []
        for path in (arguments.ceiling, arguments.more_ranks)
    )
    print(page(found["runs"], found["machine"]["cores"], ceilings, steps))


def page(runs: Sequence[Run], cores: int, ceilings: Sequence[Run] = (), steps: Sequence[Run] = ()) -> str:
    """The whole page.

    Args:
        runs: Runs of all peers, ours among them.
        cores: Of the machine that they ran on.
        ceilings: What `benchmarks.ceiling` found on it.
        steps: What `benchmarks.more_ranks` found on it.
    """
    keys = sorted({(run["model"], run["rows"], run["vocab"]) for run in runs})
    parts = [
        "# Performance",
        "Written by `make bench-peers` and `make bench-ranks` from the runs of the peers' benchmark, in which each peer is one process tree on the same"
        f" rows, and repetitions are interleaved. This machine has {cores} cores. Ratios are taken within one repetition; the"
        " range is over repetitions. A run beside which other processes took more than a tenth of the machine is left out.",
        *(
            section(key, [run for run in runs if (run["model"], run["rows"], run["vocab"]) == key], cores)
            for key in keys
        ),
        flatness(runs, cores),
        memory(runs, cores),
        more_ranks(runs, cores, ceilings, steps),
    ]
    return "\n\n".join(part for part in parts if part)


def section(key: Key, runs: Sequence[Run], cores: int) -> str:
    """One model and vocabulary: all peers, and where our time goes."""
    model, rows, vocab = key
    clean = [run for run in runs if is_clean(run, cores)]
    ours = {run["rep"]: run for run in clean if run["peer"] == OURS}
    lines = [
        f"## {model}, {rows:,} rows, {vocab:,} ids",
        "",
        "| runner | runs | left out | samples/s | ours : it | seconds, cold start to saved | ours : it | peak MB | shared pages once | AUC |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for peer in dict.fromkeys(run["peer"] for run in runs):
        mine = [run for run in clean if run["peer"] == peer]
        out = sum(run["peer"] == peer for run in runs) - len(mine)
        if not mine:
            lines.append(f"| {peer} | 0 | {out} | - | - | - | - | - | - | - |")
            continue
        pairs = [(ours[run["rep"]], run) for run in mine if run["rep"] in ours and peer != OURS]
        rate = spread((o["steady_sps"] / run["steady_sps"] for o, run in pairs if run.get("steady_sps")), "{:.2f}")
        whole = spread((o["e2e_s"] / run["e2e_s"] for o, run in pairs), "{:.2f}")
        lines.append(
            f"| {peer} | {len(mine)} | {out} | {spread((run.get('steady_sps') or 0 for run in mine), '{:,.0f}')} | {rate} | "
            f"{spread((run['e2e_s'] for run in mine), '{:.1f}')} | {whole} | "
            f"{max(run['peak_rss_mb'] for run in mine):,.0f} | {max(run['peak_pss_mb'] for run in mine):,.0f} | {spread((run['auc'] for run in mine if 'auc' in run), '{:.4f}')} |"
        )
    if ours:
        lines += ["", phases(list(ours.values()))]
    return "\n".join(lines)


def phases(ours: Sequence[Run]) -> str:
    """Mean milliseconds of each phase of a step, of the slowest rank, and the parts of the start."""
    run = ours[len(ours) // 2]
    slowest = max(run["rank_phases"], key=lambda phases: sum(phases.values()) - phases["exchange"])
    steps = " · ".join(f"{name} {1e3 * seconds / run['n_steps']:.1f}" for name, seconds in slowest.items())
    parts = run["startup"] | run.get("opening", {})
    start = " · ".join(f"{name} {seconds:.1f}" for name, seconds in parts.items())
    return (
        f"A step of ours ({run['ranks']} ranks, {run['threads_per_rank']} thread each), milliseconds: {steps}. "
        f"From the start of the ranks to the end of the first step, seconds: {start}. Largest resident set of a rank: {max(run['rank_peak_rss_mb']):,.0f} MB."
    )


def flatness(runs: Sequence[Run], cores: int) -> str:
    """Our cost per sample at each size of the vocabulary, relative to the smallest one."""
    lines = []
    for model, rows in sorted({(run["model"], run["rows"]) for run in runs}):
        rates: dict[int, float] = {}
        for vocab in sorted({run["vocab"] for run in runs}):
            found = [
                run["steady_sps"]
                for run in runs
                if run["peer"] == OURS and is_clean(run, cores) and (run["model"], run["rows"], run["vocab"]) == (model, rows, vocab)
            ]  # fmt: skip
            if found:
                rates[vocab] = statistics.median(found)
        if len(rates) > 1:
            first = next(iter(rates.values()))
            costs = " · ".join(f"{vocab:,} ids: {first / rate:.2f}" for vocab, rate in rates.items())
            lines.append(f"| {model} | {rows:,} | {costs} |")
    if not lines:
        return ""
    return "\n".join(
        [
            "## Our cost per sample by size of the vocabulary",
            "",
            "| model | rows | relative cost |",
            "|---|---|---|",
            *lines,
        ]
    )


def memory(runs: Sequence[Run], cores: int) -> str:
    """Our peak at the largest vocabulary beside the leanest peer's and what our processes take before there are tables."""
    lines = []
    for model, rows in sorted({(run["model"], run["rows"]) for run in runs}):
        for kind, name in (("peak_rss_mb", "resident sets added up"), ("peak_pss_mb", "shared pages counted once")):
            peaks: dict[int, dict[str, float]] = {}
            for run in runs:
                if is_clean(run, cores) and (run["model"], run["rows"]) == (model, rows):
                    of = peaks.setdefault(run["vocab"], {})
                    of[run["peer"]] = max(of.get(run["peer"], 0.0), run[kind])
            both = sorted(vocab for vocab, of in peaks.items() if OURS in of and _peers(of))
            if len(both) > 1:
                small, large = both[0], both[-1]
                peer = min(_peers(peaks[large]), key=lambda name: peaks[large][name])
                fixed = peaks[small][OURS] - min(peaks[small][name] for name in _peers(peaks[small]))
                limit = peaks[large][peer] + fixed
                lines.append(
                    f"| {model} | {name} | {peaks[large][OURS]:,.0f} | {peer}: {peaks[large][peer]:,.0f} | {fixed:,.0f} | "
                    f"{peaks[large][OURS] / limit:.2f} |"
                )
    if not lines:
        return ""
    return "\n".join(
        [
            "## Memory at the largest vocabulary",
            "",
            "Peak of all processes of a run, MB. The fixed cost is what ours takes more than the leanest peer where the tables are"
            " smallest: a driver, a second process's libraries, Horovod, Petastorm.",
            "",
            "| model | counted | ours | leanest peer | fixed cost | ours : (peer + fixed cost) |",
            "|---|---|---|---|---|---|",
            *lines,
        ]
    )


def _peers(of: dict[str, float]) -> list[str]:
    return [name for name in of if not name.startswith(OURS)]


if __name__ == "__main__":
    main()
