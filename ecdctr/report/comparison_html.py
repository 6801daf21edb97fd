"""The page of a comparison: one file, no script, nothing loaded from elsewhere."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup, escape

from ecdctr.report import comparison_words as words
from ecdctr.report import plots
from ecdctr.report.answers import aim_rows, answer, answered, chance_sentence, users_sentence
from ecdctr.report.canvas import ARMS
from ecdctr.report.comparison import ComparedArm, Comparison
from ecdctr.report.html import LEVEL_TITLES, environment
from ecdctr.report.schema import Metrics
from ecdctr.report.wording import DECIDING, NAMES

PARTS = {
    "by_activity": ("activity", "by how many ads a user saw", "Users with few ads are where other knowledge is needed most."),
    "cold_users": ("users", "of users new to ads, and of known ones", "Cold: no ad seen before that day."),
    "cold_ads": ("ads", "of new ads, and of known ones", "Cold: first seen on that day."),
    "returning_users": ("returning", "of users who come back", "Returning: ads seen before, but none in the week before."),
}  # fmt: skip


def render_comparison_html(comparison: Comparison) -> str:
    """The page; every name from data is escaped."""
    return environment().get_template("compare.html.j2").render(_view(comparison))


def _view(comparison: Comparison) -> dict[str, Any]:
    drawn = drawn_arms(comparison)
    arms = {name: comparison.arms[name] for name in drawn}
    return {
        "comparison": comparison,
        "words": words,
        "baselines": words.baselines(comparison),
        "drawn": drawn,
        "titles": {name: words.title(comparison, name) for name in comparison.arms},
        "names": NAMES,
        "deciding": DECIDING,
        "columns": words.COLUMNS,
        "level_titles": LEVEL_TITLES,
        "verdict": _verdict(comparison),
        "forests": _forests(comparison),
        "daily_plots": [
            (metric, plots.days_of_arms({name: arm.daily for name, arm in arms.items()}, metric)) for metric in DECIDING
        ],
        "part_plots": [
            (heading, note, plot)
            for attribute, (name, heading, note) in PARTS.items()
            if (plot := _parts({arm: getattr(found, attribute) for arm, found in arms.items()}, name))
        ],
        "calibration_plot": plots.calibration_of_arms({name: arm.calibration for name, arm in arms.items()}),
        "forgetting_plot": _forgetting(arms),
        "aim": [[_code(cell) for cell in row] for row in aim_rows(comparison)],
        "answers": [
            (title, [(question, answer([comparison], question)) for question in asked])
            for title, asked in answered(comparison)
        ],
        "chance": " ".join(filter(None, (users_sentence(comparison), chance_sentence(comparison)))),
        "questions": words.questions(comparison),
        "tuning": words.tuned_arms(comparison),
    }


def _code(text: str) -> Markup:
    """Names in backquotes as code."""
    parts = text.split("`")
    return Markup().join(
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part) for place, part in enumerate(parts)
    )


def drawn_arms(comparison: Comparison) -> list[str]:
    """Arms that the plots show, as many as there are colours: the baselines and E-CDCTR first."""
    first = [name for name in ("ecdctr", *words.baselines(comparison)) if name in comparison.arms]
    return list(dict.fromkeys((*first, *comparison.arms)))[: len(ARMS)]


def _verdict(comparison: Comparison) -> str:
    """Colour of the headline's dot."""
    found = words.baselines(comparison)[:1]
    told = {verdict for arm in comparison.arms for b in found for verdict in words.verdicts(comparison, arm, b)}
    decided = told - {"open"}
    return "mixed" if len(decided) > 1 else next(iter(decided), "open")


def _forests(comparison: Comparison) -> list[tuple[str, str, Markup]]:
    found = []
    for baseline in words.baselines(comparison):
        for metric in DECIDING:
            told = [words.between(comparison, arm, baseline, metric) for arm in comparison.arms]
            shown = [difference for difference in told if difference is not None]
            if shown:
                labels = [words.title(comparison, difference.arm) for difference in shown]
                name = f"forest-{baseline.replace('_', '-')}-{metric}"
                found.append((baseline, metric, plots.differences(shown, labels, name)))
    return found


def _parts(parts: Mapping[str, Mapping[str, Metrics]], name: str) -> Markup:
    known = any(metrics.auc is not None for of_arm in parts.values() for metrics in of_arm.values())
    return plots.parts_of_arms(parts, name) if known else Markup()


def _forgetting(arms: Mapping[str, ComparedArm]) -> Markup:
    curves = {name: arm.forgetting.curve for name, arm in arms.items()}
    return plots.days_of_arms(curves, "auc", "forgetting", width=10.8)
