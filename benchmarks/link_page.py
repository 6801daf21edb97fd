"""The part of docs/scale.md on limited links: what was measured over them, against the model."""

from collections.abc import Sequence
from typing import Any

from benchmarks.link_model import LinkConstants, Run, beyond_unlimited, crossings, link_seconds, rate_of, step_seconds
from benchmarks.scale_model import EXCHANGES, Constants, Workload, bytes_per_step, seconds_per_step


def over_links(links: dict[str, Any] | None, host: Constants, fitted: LinkConstants, cores: int) -> list[str]:
    """Paragraphs of the page.

    Args:
        links: As `benchmarks.links` keeps it; None: it was not run.
        host: Constants of the ranks themselves, fitted to runs over the loopback interface.
        fitted: Constants of links.
        cores: That ranks share where there are more of them.
    """
    title = "## Over limited links"
    if links is None:
        return [title, "Not measured: `make bench-links` needs root and iproute2, see benchmarks/README.md."]
    runs = links["runs"]
    loads = "; ".join(f"{ranks} ranks {before:.1f}, {after:.1f}" for ranks, (before, after) in links["load"].items())
    parts = [
        title,
        "Measured by `make bench-links`: each rank in a network namespace with an address of its own, joined to the others by a bridge; "
        f"`tc` limits what each sends and receives. Load average of the machine before and after: {loads}.",
        counted(links["bytes"], links["rounds"]),
        f"A sent byte takes {fitted.wire:.2f} bytes of a link's rate (headers, acknowledgements, gaps), fitted to the runs of 2 ranks over "
        "limited links. The model of a run below is what loopback runs of 1 and 2 ranks gave for the ranks themselves, and this for the links; "
        "nothing of a run of 4 ranks is in it. Ranks beyond the cores share them: the part of the ranks themselves is multiplied by ranks / "
        "cores, that of the links is not.",
        compared(runs, host, fitted, cores),
    ]
    if fitted.crossings:
        parts += [delayed(runs, fitted)]
    elif links["left_out"]:
        parts += [f"Delayed links were left out: {links['left_out']}"]
    return parts


def counted(found: Sequence[dict[str, Any]], rounds: Sequence[dict[str, Any]]) -> str:
    """Bytes of a step by the interface's counters, against the formulas."""
    idle = next(one["idle_bytes"] for one in rounds if one["link"] == {"mbit": None, "delay_ms": None})
    lines = [
        "Bytes that a rank sent in a step, by the counters of its interface. They hold acknowledgements and what Horovod's ranks ask one "
        f"another in each cycle of a millisecond, work or not: {idle / 1e3:,.0f} kB a second of a rank that waits.",
        "",
        "| ids | b | ranks | tables | MB, counted | by the formulas | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in found:
        work = Workload(**one["work"])
        says = sum(bytes_per_step(work, one["ranks"], one["exchange"]).values())
        lines.append(
            f"| {work.ids:,} | {work.batch:,} | {one['ranks']} | {one['exchange']} | {one['bytes'] / 1e6:.3f} | {says / 1e6:.3f} | {one['bytes'] / says:.2f} |"
        )
    return "\n".join(lines)


def compared(runs: Sequence[Run], host: Constants, fitted: LinkConstants, cores: int) -> str:
    """Every run without delay against the model."""
    lines = [
        "| Mbit/s | ids | b | ranks | tables | ms per step: forward | backward | exchange | update | added by the limit, measured | by the model | whole step without input, measured | by the model | ratio |",
        "|---" * 14 + "|",
    ]
    added = {id(run): more for run, more in beyond_unlimited(runs)}
    for run in (run for run in runs if run["link"]["delay_ms"] is None):
        work, ranks, exchange = Workload(**run["work"]), run["ranks"], run["exchange"]
        own = sum(seconds_per_step(host, work, ranks, exchange).values()) * max(1.0, ranks / cores)
        wire = link_seconds(fitted, work, ranks, exchange, rate_of(run), 0.0)
        times = " | ".join(
            f"{1e3 * run['phases'][phase]:.1f}" for phase in ("forward", "backward", "exchange", "update")
        )
        rate, more = "no limit", "- | -"
        if run["link"]["mbit"] is not None:
            rate, more = f"{run['link']['mbit']:,.0f}", f"{1e3 * added[id(run)]:.1f} | {1e3 * wire:.1f}"
        took = step_seconds(run)
        lines.append(
            f"| {rate} | {work.ids:,} | {work.batch:,} | {ranks} | {exchange} | {times} | {more} | {1e3 * took:.1f} | "
            f"{1e3 * (own + wire):.1f} | {took / (own + wire):.2f} |"
        )
    return "\n".join(lines)


def delayed(runs: Sequence[Run], fitted: LinkConstants) -> str:
    """Crossings of a step, counted by how much longer it takes where each is delayed."""
    late = sorted({run["link"]["delay_ms"] for run in runs if run["link"]["delay_ms"]})
    batch = next(run["work"]["batch"] for run in runs if run["link"]["delay_ms"])
    lines = [
        f"Where every packet is kept {' or '.join(f'{delay:g}' for delay in late)} ms on its way (b = {batch}, so that bytes count for nothing), a step takes "
        "longer by so many delays: as many messages wait for one another.",
        "",
        "| ranks | tables | crossings of a step |",
        "|---|---|---|",
    ]
    lines += [f"| {ranks} | {kind} | {number:.1f} |" for (ranks, kind), number in sorted(crossings(runs).items())]
    lines += [
        "",
        "By a straight line through these: "
        + "; ".join(
            f"{kind} {fitted.crossings[kind][0]:.1f} + {fitted.crossings[kind][1]:.1f} (N − 1)"
            for kind in EXCHANGES
            if kind in fitted.crossings
        )
        + ". They grow with N because Gloo passes the pieces of an all-reduce and of an all-gather around a ring, and Horovod agrees on every "
        "exchange by such a ring first.",
    ]
    return "\n".join(lines)
