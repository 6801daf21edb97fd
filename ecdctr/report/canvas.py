"""From a matplotlib figure to inline SVG that takes its colours and its typeface from the page."""

import datetime as dt
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import matplotlib.dates as mdates
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Stand-ins: matplotlib knows no CSS variables, so each is drawn in a colour of its own and renamed afterwards.
INK, MUTED, RULE, PANEL = "#010001", "#010002", "#010003", "#010004"
ARMS = ("#010101", "#010102", "#010103", "#010104", "#010105", "#010106")
TPM, CPM, ACTR = "#010201", "#010202", "#010203"
GOOD, BAD, OPEN = "#010301", "#010302", "#010303"

_VARIABLES = {
    INK: "ink", MUTED: "muted", RULE: "rule", PANEL: "panel",
    **{color: f"arm-{index}" for index, color in enumerate(ARMS)},
    TPM: "tpm", CPM: "cpm", ACTR: "actr", GOOD: "good", BAD: "bad", OPEN: "open",
}  # fmt: skip

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": RULE,
    "axes.facecolor": "none",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "axes.formatter.useoffset": False,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "xtick.minor.size": 0.0,
    "ytick.minor.size": 0.0,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "none",
    "path.simplify": True,
}


class Canvas:
    """One plot.

    Args:
        name: Letters and '-'; makes the ids of the SVG's parts unique in a page.
        title: What is seen, for readers that do not see it.
        width: Inches at 72 points, of the page's own units.
        height: As `width`.
    """

    def __init__(self, name: str, title: str, width: float, height: float) -> None:
        self.name, self.title = name, title
        self.figure = Figure(figsize=(width, height), layout="constrained")
        self.axes: Axes = self.figure.subplots()
        self.svg = Markup()


@contextmanager
def canvas(name: str, title: str, width: float = 6.4, height: float = 2.7) -> Iterator[Canvas]:
    """Draw on `.axes` within the block; afterwards `.svg` holds the picture."""
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        # Text is drawn by the reader's browser: what matplotlib's own font lacks does not matter.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        drawn = Canvas(name, title, width, height)
        yield drawn
        drawn.svg = _svg(drawn)


def day_number(date: dt.date) -> float:
    """Place of a day on an axis of days."""
    return float(mdates.date2num(date))


def day_axis(axes: Axes, first: dt.date, last: dt.date, ticks: int) -> None:
    """Label the horizontal axis at up to `ticks` whole days at equal distances."""
    step = max(1, -(-((last - first).days + 1) // ticks))
    days = [first + dt.timedelta(days=offset) for offset in range(0, (last - first).days + 1, step)]
    axes.set_xticks([day_number(day) for day in days], [f"{day.day} {day:%b}" for day in days])
    if first == last:
        axes.set_xlim(day_number(first) - 1, day_number(first) + 1)


def _svg(drawn: Canvas) -> Markup:
    buffer = io.StringIO()
    # Without metadata: no date, so that the same report gives the same bytes, and no foreign address in the page.
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    drawn.figure.savefig(buffer, format="svg", metadata=metadata, transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{drawn.name}-", text)
    text = re.sub(r"font(-family)?: [^;\"]*?(\d+(?:\.\d+)?px)[^;\"]*", r"font-size: \2", text)
    for color, variable in _VARIABLES.items():
        text = text.replace(color, f"var(--{variable})")
    head, body = text.split(">", 1)
    view = re.search(r'viewBox="[^"]*"', head)
    label = escape(drawn.title)
    # Text was escaped by matplotlib, the title here: the whole is safe to stand in a page.
    return Markup(  # noqa: S704
        f'<svg {view[0] if view else ""} xmlns:xlink="http://www.w3.org/1999/xlink" role="img" aria-label="{label}">'
        f"<title>{label}</title>{body}"
    )
