"""`docs/results.md` from stored comparisons: `python -m ecdctr.report.results [runs/NAME/compare.json …] [--earlier …]`.

Each comparison that is named is stored as `docs/results/NAME.json`, without what no page shows; one on earlier days, on which
remedies were chosen, as `docs/results/earlier/NAME.json`. Then the summary and one page for each data set are written anew
from all that are stored, so that no figure in them was typed by hand.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from ecdctr.exceptions import InputError
from ecdctr.report.answers import answer, best_arms
from ecdctr.report.comparison import BASELINES, Comparison
from ecdctr.report.comparison_words import between, cell, headline
from ecdctr.report.questions import AIM, METHODS, PARTS, REMEDIES, RIVALS, Question
from ecdctr.report.results_cost import cost_section
from ecdctr.report.results_log import log_section
from ecdctr.report.results_page import facts, render_page, table
from ecdctr.report.wording import DECIDING, NAMES, printable, verdict_of
from ecdctr.report.write import as_json, write_files

OTHERS = [rival for rival in RIVALS if rival != BASELINES[-1]]
STORE, EARLIER = "results", "earlier"
HEAD = """# Results

Written by `make results` from the comparisons in `docs/results/`, each the summary of a `compare.json` that
`ecdctr compare` wrote. Figures are means over seeds on days that the models had not seen. Differences are in points
(hundredths of AUC or GAUC) with 95 % intervals from resampling users, the same ones for all arms and seeds; * marks those
whose whole interval lies on one side of zero, and nothing else is called a gain or a loss. They speak of other
users, not of other seeds; where seeds disagree, the page of the data set says so. Where nothing can be told, the smallest true
difference stands that would have been, four times out of five. Controls (shuffled, random) are never called highest. How each number is made: [metrics.md](metrics.md); what each arm is: [compare.md](compare.md).
"""


def summarized(comparison: Comparison) -> Comparison:
    """A comparison without days, curves, calibration and activity."""
    arms = {
        name: arm.model_copy(
            update={
                "daily": [], "calibration": [], "by_activity": {},
                "forgetting": arm.forgetting.model_copy(update={"curve": []}),
            }
        )
        for name, arm in comparison.arms.items()
    }  # fmt: skip
    return comparison.model_copy(update={"arms": arms})


def render_results(comparisons: Sequence[Comparison], earlier: Sequence[Comparison] = ()) -> str:
    """The summary over all data sets.

    Args:
        comparisons: On the days that the method is judged by.
        earlier: On days before them, on which remedies were chosen.
    """
    lines = [HEAD]
    if comparisons:
        for part in (_short, _aim, _logs, _reasons, cost_section, _remedies):
            lines += part(comparisons)
        lines += _chosen(earlier)
    else:
        lines.append("No comparison is stored yet.")
    return "\n".join(lines).rstrip("\n") + "\n"


def _short(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """What a reader in a hurry should know."""
    yield "## In short"
    yield ""
    for comparison in comparisons:
        best = [f"{NAMES[metric]} of `{printable(arm)}` ({value})" for metric, arm, value in best_arms(comparison)]
        told = f"highest are {' and '.join(best)}. " if best else ""
        yield f"- **{printable(comparison.dataset.name)}**: {told}{headline(comparison)}"
    reached = _reached(comparisons)
    yield (
        f"- {', '.join(reached) or 'No arm'} {'are' if len(reached) > 1 else 'is'} below no baseline and above `{BASELINES[-1]}` beyond "
        "chance on two data sets; below stands where each arm falls short."
    )
    for words, told in (("helped", "better"), ("hurt", "worse")):
        found = [f"`{remedy.arm}` ({said})" for remedy in REMEDIES if told in (said := answer(comparisons, remedy))]
        if found:
            yield f"- Remedies that {words} beyond chance somewhere: {', '.join(found)}."
    yield ""


def _logs(comparisons: Sequence[Comparison]) -> Iterator[str]:
    for comparison in comparisons:
        yield from log_section(comparison)


def _aim(comparisons: Sequence[Comparison]) -> Iterator[str]:
    yield "## The method against the baselines"
    yield ""
    yield (
        f"What would be asked of it: {' or '.join(f'`{name}`' for name in AIM)} nowhere below a baseline in AUC or GAUC, never below `{BASELINES[0]}`, "
        f"and above `{BASELINES[-1]}` beyond its interval on at least two data sets. Beyond their intervals, the arms of the method are"
    )
    yield ""
    simple = BASELINES[-1]
    rows = []
    for arm in _methods(comparisons):
        found = (
            _places(comparisons, arm, [BASELINES[0]], "better"), _places(comparisons, arm, [simple], "better"),
            _places(comparisons, arm, [simple], "worse"), _places(comparisons, arm, OTHERS, "worse"),
        )  # fmt: skip
        rows.append([f"`{arm}`", *("; ".join(told) or "nowhere" for told in found)])
    yield from table(
        ["arm", f"above `{BASELINES[0]}`", f"above `{simple}`", f"below `{simple}`", "below another baseline"], rows
    )
    reached = _reached(comparisons)
    yield f"**So much is reached by {', '.join(reached)}.**" if reached else "**No arm reaches so much.**"
    yield ""


def _methods(comparisons: Sequence[Comparison]) -> list[str]:
    arms = dict.fromkeys(arm for comparison in comparisons for arm in comparison.arms)
    return [arm for arm in arms if arm in METHODS]


def _reached(comparisons: Sequence[Comparison]) -> list[str]:
    """Arms of the method that are below no baseline, and above the strongest simple one on two data sets or more."""
    found = []
    for arm in _methods(comparisons):
        # A log that was also walked with tuned arms is one log.
        on = {
            c.dataset.model_dump_json(exclude={"name"})
            for c in comparisons
            if _places([c], arm, [BASELINES[-1]], "better")
        }
        if len(on) >= 2 and not _places(comparisons, arm, RIVALS, "worse"):
            found.append(f"`{arm}`")
    return found


def _places(comparisons: Sequence[Comparison], arm: str, baselines: Sequence[str], verdict: str) -> list[str]:
    """Data set, metric and, of several baselines, which one, for each difference with that verdict."""
    found = []
    for comparison in comparisons:
        for metric in DECIDING:
            for baseline in baselines:
                difference = between(comparison, arm, baseline, metric)
                if difference is not None and verdict_of(difference) == verdict:
                    which = f" of `{baseline}`" if len(baselines) > 1 else ""
                    found.append(f"{printable(comparison.dataset.name)}, {NAMES[metric]}{which}")
    return found


def _reasons(comparisons: Sequence[Comparison]) -> Iterator[str]:
    for title, asked in PARTS.items():
        yield from _asked(comparisons, asked, title, "question")


def _remedies(comparisons: Sequence[Comparison]) -> Iterator[str]:
    yield from _asked(comparisons, REMEDIES, "What each remedy brought", "remedy")


def _chosen(earlier: Sequence[Comparison]) -> Iterator[str]:
    if not earlier:
        return
    yield from _asked(earlier, REMEDIES, "On which days the remedies were chosen", "remedy")
    yield "What to try was suggested by the days above; which of it to trust was chosen on these earlier days alone:"
    yield ""
    yield from (f"- {printable(comparison.dataset.name)}: {facts(comparison)}" for comparison in earlier)
    yield ""


def _asked(comparisons: Sequence[Comparison], questions: Sequence[Question], title: str, kind: str) -> Iterator[str]:
    known = [
        (question, told)
        for question in questions
        if any(told := [_told(comparison, question) for comparison in comparisons])
    ]
    if not known:
        return
    names = [printable(comparison.dataset.name) for comparison in comparisons]
    yield f"## {title}"
    yield ""
    yield from table(
        [kind, "answer", "difference", *(f"{name}, {NAMES[metric]}" for name in names for metric in DECIDING)],
        [
            [
                question.asked, answer(comparisons, question), f"`{question.arm}` − `{question.baseline}`",
                *(text for each in told for text in (each or [""] * len(DECIDING))),
            ]
            for question, told in known
        ],
    )  # fmt: skip


def _told(comparison: Comparison, question: Question) -> list[str]:
    """The difference in each metric; nothing where the data set has not both arms."""
    found = [between(comparison, question.arm, question.baseline, metric) for metric in DECIDING]
    return [cell(difference) for difference in found] if any(found) else []


def load_comparison(path: Path) -> Comparison:
    """A stored comparison.

    Raises:
        InputError: It cannot be read.
    """
    try:
        return Comparison.model_validate_json(path.read_text())
    except (OSError, ValidationError) as error:
        raise InputError(f"{path} is no comparison: {error}", hint="write it with ecdctr compare") from error


def rendered(docs: Path) -> dict[str, str]:
    """All pages of what is stored below the documentation's folder, by their path there."""
    comparisons, earlier = (
        [load_comparison(path) for path in sorted(folder.glob("*.json"))]
        for folder in (docs / STORE, docs / STORE / EARLIER)
    )
    pages = {f"{STORE}/{comparison.dataset.name}.md": render_page(comparison) for comparison in comparisons}
    return {"results.md": render_results(comparisons, earlier)} | pages


def write_results(docs: Path, named: Sequence[Path], earlier: Sequence[Path] = ()) -> list[str]:
    """Store the named comparisons and write the pages from all that are stored.

    Args:
        docs: The folder of the documentation.
        named: `compare.json` files to store; those stored before stay.
        earlier: Those of earlier days.

    Returns:
        The pages that were written.
    """
    for folder, paths in ((docs / STORE, named), (docs / STORE / EARLIER, earlier)):
        for path in paths:
            comparison = summarized(load_comparison(path))
            write_files(folder, {f"{comparison.dataset.name}.json": as_json(comparison.tree())})
    pages = rendered(docs)
    for name, page in pages.items():
        write_files((docs / name).parent, {Path(name).name: page})
    return list(pages)


def main(arguments: Sequence[str]) -> None:
    """Command line: see the module."""
    parser = argparse.ArgumentParser(prog="python -m ecdctr.report.results")
    parser.add_argument("comparisons", nargs="*", type=Path, help="compare.json files to store")
    parser.add_argument("--earlier", nargs="*", type=Path, default=[], help="those of earlier days")
    asked = parser.parse_args(arguments)
    sys.stdout.write(
        "".join(f"docs/{name}\n" for name in write_results(Path("docs"), asked.comparisons, asked.earlier))
    )


if __name__ == "__main__":
    main(sys.argv[1:])
