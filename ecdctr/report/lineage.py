"""The lineage drawn: which version was trained on which days, and from what."""

import datetime as dt

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from ecdctr.report.canvas import ACTR, CPM, INK, MUTED, PANEL, TPM, canvas, day_axis, day_number
from ecdctr.report.schema import LEVELS, Report, Version

COLORS = dict(zip(LEVELS, (TPM, CPM, ACTR), strict=True))
TITLES = {"tpm": "TPM · long memory", "cpm": "CPM · complete model", "actr": "A-CTR · ad model"}
ROW = {"tpm": 1.0, "cpm": 1.0, "actr": 0.5}
GAP = 1.1


def lineage(report: Report) -> Markup:
    """Bars are what versions were trained on, dots their publication, lines go from a parent to its child.

    A version that continues the one before shows only the parents that are new to it. Drawn for the main arm: its
    A-CTR versions and all their ancestors.
    """
    shown = ancestry(report)
    rows = _rows(shown)
    if not rows:
        return Markup()
    depth = max(rows.values()) + 0.8
    with canvas(
        "lineage", "Versions, the days they were trained on, and their parents", 10.8, 0.6 + 0.23 * depth
    ) as drawn:
        axes = drawn.axes
        levels = {version.version: level for level, versions in shown.items() for version in versions}
        placed = {version.version: version for versions in shown.values() for version in versions}
        for version in placed.values():
            _links(axes, version, [placed[name] for name in _new_parents(version, placed, levels)], levels, rows)
        for level, versions in shown.items():
            for version in versions:
                _bar(axes, level, version, rows[version.version])
            if versions:
                top = rows[versions[0].version]
                axes.annotate(
                    TITLES[level], (0, top - 0.62 - ROW[level] / 4), xycoords=("axes fraction", "data"),
                    xytext=(4, 0), textcoords="offset points", color=COLORS[level], weight="bold", va="center",
                )  # fmt: skip
        _axis(axes, depth, min(v.window[0] for v in placed.values()), max(published(v) for v in placed.values()))
    return drawn.svg


def ancestry(report: Report) -> dict[str, list[Version]]:
    """The main arm's A-CTR versions and all that they descend from, by level, oldest first."""
    main = report.transfer.arm if report.transfer else next(iter(report.arms), "")
    known = {v.version: v for level in LEVELS for v in getattr(report.levels, level)}
    waiting = [v.version for v in report.levels.actr if v.arm in ("", main)]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in known and name not in found:
            found.add(name)
            waiting += known[name].parents
    return {
        level: sorted((v for v in getattr(report.levels, level) if v.version in found), key=published)
        for level in LEVELS
    }


def published(version: Version) -> dt.date:
    """The first day that the version may not have seen: from then on it can be used."""
    return version.date or version.window[1]


def _rows(shown: dict[str, list[Version]]) -> dict[str, float]:
    rows: dict[str, float] = {}
    at = 0.0
    for level, versions in shown.items():
        if not versions:
            continue
        at += GAP if rows else 0.75
        for version in versions:
            rows[version.version] = at
            at += ROW[level]
    return rows


def _bar(axes: Axes, level: str, version: Version, row: float) -> None:
    start, end = (day_number(day) for day in version.window)
    height = 0.46 * ROW[level]
    box = FancyBboxPatch(
        (start, row - height / 2), max(end - start, 0.05), height,
        boxstyle="square,pad=0", facecolor=COLORS[level], edgecolor="none", alpha=0.42, zorder=3,
    )  # fmt: skip
    axes.add_patch(box)
    size = 7.0 if level != "actr" else 5.0
    axes.plot(
        [day_number(published(version))], [row], "o", color=COLORS[level], markersize=size, mec=PANEL, mew=1.0, zorder=5
    )


def _new_parents(version: Version, placed: dict[str, Version], levels: dict[str, str]) -> list[str]:
    """Parents in the picture, but those that came with the version of its own level that it continues."""
    parents = [name for name in version.parents if name in placed]
    continued = [placed[name] for name in parents if levels[name] == levels[version.version]]
    inherited = {name for parent in continued for name in parent.parents}
    return [name for name in parents if name not in inherited]


def _links(
    axes: Axes, version: Version, parents: list[Version], levels: dict[str, str], rows: dict[str, float]
) -> None:
    level = levels[version.version]
    for parent in parents:
        source = levels[parent.version]
        strong = (source, level) in (("tpm", "cpm"), ("cpm", "actr"))
        axes.annotate(
            "", (day_number(published(version)), rows[version.version]), (day_number(published(parent)), rows[parent.version]),
            arrowprops={
                "arrowstyle": "-", "color": COLORS[source], "linewidth": 0.9, "alpha": 0.6 if strong else 0.22,
                "connectionstyle": "arc3,rad=0" if source == level else "angle3,angleA=-90,angleB=0",
                "shrinkA": 0, "shrinkB": 2,
            },
            zorder=2,
        )  # fmt: skip


def _axis(axes: Axes, depth: float, first: dt.date, last: dt.date) -> None:
    axes.set_ylim(depth, -0.45)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.015)
    day_axis(axes, first, last, 10)
    axes.tick_params(axis="x", colors=MUTED)
    axes.title.set_color(INK)
