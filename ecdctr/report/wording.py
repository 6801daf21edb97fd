"""Numbers and findings in words, the same in the page and in the table."""

import datetime as dt
import math
from dataclasses import dataclass

from ecdctr.metrics import smallest_visible_difference
from ecdctr.report.schema import Difference, Report

MINUS, DASH = "−", "–"

# Metrics in which the smaller value is the better one.
LOWER_IS_BETTER = frozenset({"log_loss", "normalized_entropy", "expected_calibration_error"})
NAMES = {
    "auc": "AUC",
    "gauc": "GAUC",
    "log_loss": "Log loss",
    "normalized_entropy": "Normalised entropy",
    "pcoc": "PCOC",
    "expected_calibration_error": "ECE",
    "gauc_clicks": "GAUC by clicks",
    "gauc_mean": "GAUC, users alike",
    "binned_auc": "Binned AUC",
}


@dataclass(frozen=True)
class Finding:
    """One difference, judged.

    Attributes:
        metric: Its name for readers.
        verdict: "better", "worse" or "open" (the interval holds zero).
        value: The difference in its unit.
        interval: From low to high.
        sentence: All of it in words.
    """

    metric: str
    verdict: str
    value: str
    interval: str
    sentence: str


@dataclass(frozen=True)
class Answer:
    """What transfer brought.

    Attributes:
        verdict: "better", "worse", "mixed", "open", or "unknown" where nothing could be compared.
        headline: In one line.
        findings: Metric by metric.
    """

    verdict: str
    headline: str
    findings: list[Finding]


DECIDING = ("auc", "gauc")


def answer(report: Report) -> Answer:
    """Judge the main arm against ads only, by AUC and GAUC; log loss is told but decides nothing."""
    differences = report.transfer.differences if report.transfer else []
    found = {d.metric: verdict_of(d) for d in differences if d.metric in DECIDING}
    decided = {verdict for verdict in found.values() if verdict != "open"}
    verdict = "mixed" if len(decided) > 1 else next(iter(decided), "open" if found else "unknown")
    return Answer(verdict, _headline(verdict, found), [finding(difference) for difference in differences])


def _headline(verdict: str, found: dict[str, str]) -> str:
    if verdict == "unknown":
        return "These days cannot answer it."
    if verdict == "open":
        return "No difference could be told."
    effects = {"better": "improved", "worse": "lowered"}
    parts = [f"{effects[found[m]]} {NAMES[m]}" for m in found if found[m] != "open"]
    if verdict != "mixed":
        parts = [f"{effects[verdict]} {' and '.join(NAMES[m] for m in found if found[m] != 'open')}"]
    rest = [f"for {NAMES[m]} no difference could be told" for m in found if found[m] == "open"]
    return f"Transfer from natural content {' but '.join(parts)}{''.join(f'; {text}' for text in rest)}."


def verdict_of(difference: Difference) -> str:
    """Better and worse only where the whole interval says so."""
    if difference.low <= 0.0 <= difference.high:
        return "open"
    return "better" if (difference.low > 0.0) != (difference.metric in LOWER_IS_BETTER) else "worse"


def finding(difference: Difference) -> Finding:
    """A difference in words, with the smallest one that could have been seen where none was."""
    name, verdict = NAMES.get(difference.metric, printable(difference.metric)), verdict_of(difference)
    value = signed(difference.metric, difference.difference)
    interval = f"{signed(difference.metric, difference.low)} to {signed(difference.metric, difference.high)}"
    level = f"{difference.level:.0%}".replace("%", " %")
    among = f"{level} interval {interval}, {count(difference.users)} users"
    unit = unit_of(difference.metric)
    if verdict == "open":
        least = smallest_visible_difference(difference.low, difference.high, difference.level)
        sentence = (
            f"{name}: no difference could be told ({value}{unit}; {among}); "
            f"the smallest one that could be seen is about {scaled(difference.metric, least)}{unit}."
        )
    else:
        direction = "rose" if difference.difference > 0 else "fell"
        amount = scaled(difference.metric, abs(difference.difference))
        word = "an improvement" if verdict == "better" else "a loss"
        sentence = f"{name} {direction} by {amount}{unit} ({among}): {word} beyond chance."
    return Finding(name, verdict, value, interval, sentence)


def unit_of(metric: str) -> str:
    """AUC and GAUC are told in points, hundredths of them; the rest as it is."""
    return " points" if metric in ("auc", "gauc") else " nats" if metric == "log_loss" else ""


def scaled(metric: str, value: float) -> str:
    """A difference without its sign's plus."""
    return f"{100 * value:.2f}" if metric in ("auc", "gauc") else f"{value:.4f}"


def signed(metric: str, value: float) -> str:
    """A difference with its sign."""
    text = scaled(metric, abs(value))
    return text if not float(text) else f"{'+' if value > 0 else MINUS}{text}"


def number(value: float | None, digits: int = 4) -> str:
    """A metric; a dash where it is null."""
    return DASH if value is None else f"{value:.{digits}f}"


def count(value: int) -> str:
    """An integer in groups of three."""
    return f"{value:,}"


def size(value: int) -> str:
    """Bytes, readable."""
    if value < 1024:
        return f"{value} B"
    power = min(int(math.log2(value) // 10), 4)
    return f"{value / 1024**power:.1f} {('KiB', 'MiB', 'GiB', 'TiB')[power - 1]}"


def duration(seconds: float) -> str:
    """Seconds, or minutes and seconds."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def span(start: dt.date, end: dt.date) -> str:
    """A half-open window by its first and last day."""
    last = max(start, end - dt.timedelta(days=1))
    return start.isoformat() if last == start else f"{start.isoformat()} … {last.isoformat()}"


def printable(text: str) -> str:
    """Names from data without control characters, cut to a readable length."""
    clean = "".join(letter if letter.isprintable() else "·" for letter in text)
    return clean if len(clean) <= 80 else clean[:79] + "…"
