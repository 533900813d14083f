"""The tables of the result pages from run records alone: python docs/results_table.py [docs/records] [docs].

Each is written anew between two comments of its name in its page: those on equal terms, from `records/rows`, in
results.md, and those of earlier settings, from all other records, in earlier_results.md.
"""

import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from gvsl.files import write_text
from gvsl.methods import METHODS
from gvsl.metrics.bootstrap import mean_with_interval, recorded_interval
from gvsl.report.grouping import OURS, RANDOM, SCRATCH, Group, groups, pretraining_of
from gvsl.report.runs import Run, read_runs
from gvsl.report.scores import case_ids, of_common_seeds, scores, seeds_of
from gvsl.report.table1.cell_scores import holm, p_value, scores_of

Scores = NDArray[np.float64]
MATCHING = ("ncc_identity", "ncc_affine", "ncc", "dice_before", "dice_after", "folded")
ROWS = "validation DSC | test DSC | gain over scratch | cases ahead | p vs. `gvsl`"
ROWS_FOLDER = "rows"
UNCHANGED = "unchanged"
"""Settings of the recipe, in the table of settings."""
OTHER_STEPS = re.compile(rf"{OURS} \((\d+) steps\)")
"""The arm of GVSL with another length of pre-training."""


def matching_table(pretrained: Iterable[Run]) -> list[str]:
    """Return one row a pre-training run that matches: means over its held-out pairs, and the spread of the overlap."""
    lines = [
        "| store | seed | steps | minutes | NCC loss: no warp | affine part | field | DSC: no warp | field | folded |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for run in pretrained:
        if not run.record.cases:
            continue
        mean = {name: np.mean([row[name] for row in run.record.cases]) for name in MATCHING}
        spread = {name: np.std([row[name] for row in run.record.cases], ddof=1) for name in MATCHING}
        lines.append(
            f"| {run.store} | {run.record.seed} | {_steps(run)} "
            f"| {run.record.seconds / 60:.0f} | {mean['ncc_identity']:.3f} | {mean['ncc_affine']:.3f} "
            f"| {mean['ncc']:.3f} | {mean['dice_before']:.3f} ± {spread['dice_before']:.3f} "
            f"| {mean['dice_after']:.3f} ± {spread['dice_after']:.3f} | {100 * mean['folded']:.2f} % |"
        )
    return lines


def labels_table(linear: Iterable[Group], steps: int) -> list[str]:
    """Return one row a store, number of labels and length of pre-training: GVSL beside random features.

    Args:
        linear: groups of linear runs.
        steps: of the usual pre-training.
    """
    lines = [
        "| store | labels | steps | random features | GVSL features | difference | cases ahead |",
        "|---|---|---|---|---|---|---|",
    ]
    for group in linear:
        lengths = {name: int(found[1]) for name in group.arms if (found := OTHER_STEPS.fullmatch(name))}
        for name, length in sorted(({OURS: steps} | lengths).items(), key=lambda item: item[1]):
            random, ours = _paired(group, RANDOM, name)
            gap = (ours - random).mean(axis=0)
            lines.append(
                f"| {group.store} | {group.labels} | {length} | {_with_spread(random)} | {_with_spread(ours)} "
                f"| {_gap(gap)} | {(gap > 0).sum()} of {len(gap)} |"
            )
    return lines


def methods_table(group: Group, *, speed: bool) -> list[str]:
    """Return one row a method of usual pre-training, best first: beside random features and GVSL.

    Args:
        group: of one store and protocol.
        speed: add the first step at 95 % of each seed's best validation score.
    """
    arms = {name: group.arms[name] for name in (RANDOM, *METHODS) if name in group.arms}
    per_case = {name: scores_of(runs) for name, runs in arms.items()}
    against = holm({name: p_value(mine, per_case[OURS]) for name, mine in per_case.items() if name != OURS})
    lines: list[tuple[float, str, str]] = []
    for name, runs in arms.items():
        random, ours = _paired(group, RANDOM, name)
        gap = (ours - random).mean(axis=0)
        table = scores(runs, case_ids(runs), "dice")
        row = SCRATCH if name == RANDOM else name
        beside = "| |" if name == RANDOM else f"| {_gap(gap)} | {(gap > 0).sum()} of {len(gap)}"
        p_text = "" if name == OURS else "< 0.001" if against[name] < 0.001 else f"{against[name]:.3f}"
        line = f"| `{row}` | {np.mean(_metrics(runs, 'val/dice')):.3f} | {_with_interval(table)} {beside} | {p_text} |"
        lines.append((float(table.mean()), row, f"{line} {_steps_to_95(runs)} |" if speed else line))
    head = f"| {group.store}, {group.labels} labels | {ROWS} |" + (" steps to 95 % |" if speed else "")
    return [head, "|---" * (7 if speed else 6) + "|", *(line for *_, line in sorted(lines, reverse=True))]


def few_labels_table(found: Sequence[Group]) -> list[str]:
    """Return one row a store and number of labels: four ways to use them, and how soon two of them are there."""
    rows: dict[tuple[str, int], dict[str, Group]] = defaultdict(dict)
    for group in found:
        rows[group.store, group.labels or 0][group.protocol] = group
    lines = [
        "| store | labels | linear, random | linear, GVSL | scratch | fine-tuned GVSL | gain over scratch "
        "| steps to 95 %: scratch | fine-tuned |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (store, labels), protocols in sorted(rows.items()):
        arms = [protocols[name].arms if name in protocols else {} for name in ("linear", "finetune")]
        cells = [_recorded(each[name]) if name in each else "" for each in arms for name in (RANDOM, OURS)]
        gap, speed = "", ["", ""]
        tuned = protocols.get("finetune")
        if tuned is not None and tuned.can_be_compared:
            if tuned.metric == "DSC":
                first, second = _paired(tuned, RANDOM, OURS)
                gap = _gap((second - first).mean(axis=0))
            else:
                pair = of_common_seeds(tuned.arms[RANDOM], tuned.arms[OURS])
                first, second = (_metrics(runs, "test/auc") for runs in pair)
                gap = f"{(second - first).mean():+.3f}"
            speed = [_steps_to_95(tuned.arms[name]) for name in (RANDOM, OURS)]
        lines.append(f"| {store} | {labels} | " + " | ".join([*cells, gap, *speed]) + " |")
    return lines


def settings_table(linear: Sequence[Group], pretrained: Sequence[Run]) -> list[str]:
    """Return one row a set of settings of GVSL, on validation: linear DSC, matching DSC and folded voxels.

    Args:
        linear: for each store the group of linear runs on all labels.
        pretrained: the pre-training runs.
    """
    rows: dict[str, dict[str, list[tuple[Run, Run]]]] = defaultdict(dict)
    for group in linear:
        for name, runs in group.arms.items():
            if name.partition(" (")[0] != OURS or OTHER_STEPS.fullmatch(name):
                continue
            made = [(run, pretraining_of(run, pretrained)) for run in runs if run.record.config["labels"] is None]
            found = [(run, other) for run, other in made if other is not None]
            rows[_settings_text(name, found[0][1])][group.store] = found
    stores = [group.store for group in linear]
    lines = [
        "| settings | " + " | ".join(f"{store}: linear DSC | matching DSC | folded" for store in stores) + " |",
        "|---" * (1 + 3 * len(stores)) + "|",
    ]
    for text in sorted(rows, key=lambda text: (text != UNCHANGED, text)):
        cells = []
        for store in stores:
            pairs = rows[text].get(store, [])
            cells += [
                _of_seeds([run.record.metrics["val/dice"] for run, _ in pairs]),
                _of_seeds([made.record.metrics["val/dice_after"] for _, made in pairs]),
                _of_seeds([100 * made.record.metrics["val/folded"] for _, made in pairs], 2, " %"),
            ]
        lines.append(f"| {text} | " + " | ".join(cells) + " |")
    return lines


def _settings_text(arm: str, pretraining: Run) -> str:
    """Return the settings in an arm's name as code, such as `fusion` paper; those of no pretext with their group."""
    settings = arm.partition(" (")[2].removesuffix(")")
    values = {"true": "True", "false": "False"}
    parts = []
    for name, value in (part.rpartition(" ")[::2] for part in settings.split(", ") if part):
        group = next((group for group in ("optimiser", "data") if name in pretraining.record.config[group]), "")
        parts.append(f"`{group}.{name}` {value}" if group else f"`{name}` {values.get(value, value)}")
    return ", ".join(parts) or UNCHANGED


def _steps(run: Run) -> int:
    return int(run.record.config["trainer"]["max_steps"])


def _paired(group: Group, first: str, second: str) -> tuple[Scores, Scores]:
    """Return the test DSC of two arms on the seeds that both have: rows are seeds, columns cases."""
    arms = of_common_seeds(group.arms[first], group.arms[second])
    cases = case_ids([run for runs in arms for run in runs])
    one, other = (scores(runs, cases, "dice") for runs in arms)
    return one, other


def _metrics(runs: Sequence[Run], name: str) -> Scores:
    """Return a recorded metric of each seed."""
    by_seed = [[run.record.metrics[name] for run in runs if run.record.seed == seed] for seed in seeds_of(runs)]
    return np.array([fmean(values) for values in by_seed])


def _steps_to_95(runs: Sequence[Run]) -> str:
    """Return the first validated step with 95 % of the run's best validation score, seed by seed."""
    return ", ".join(f"{steps:.0f}" for steps in _metrics(runs, "steps_to_95"))


def _gap(gap: Scores) -> str:
    return f"{gap.mean():+.3f} ± {gap.std(ddof=1):.3f}"


def _with_spread(table: Scores) -> str:
    """Return the mean, its spread over cases after averaging over seeds, and each seed's mean."""
    seeds = ", ".join(f"{mean:.3f}" for mean in table.mean(axis=1))
    return f"{table.mean():.3f} ± {table.mean(axis=0).std(ddof=1):.3f} ({seeds})"


def _with_interval(table: Scores) -> str:
    """Return the mean with its 95 % interval over cases after averaging over seeds, and each seed's mean."""
    found = mean_with_interval("dice", list(table.mean(axis=0)))
    seeds = ", ".join(f"{mean:.3f}" for mean in table.mean(axis=1))
    ends = recorded_interval(found, "dice", table.shape[1])
    return f"{found['dice']:.3f}{_brackets(ends)} ({seeds})"


def _brackets(ends: Sequence[float] | None) -> str:
    """Return the ends of an interval; empty if there is none, as of fewer than five cases."""
    return "" if ends is None else f" [{ends[0]:.3f}, {ends[1]:.3f}]"


def _recorded(runs: Sequence[Run]) -> str:
    """Return the recorded test score: its mean over seeds, the mean of the seeds' intervals, and each seed's score."""
    name = "test/dice" if "test/dice" in runs[0].record.metrics else "test/auc"
    found = [recorded_interval(run.record.metrics, name, len(run.record.cases)) for run in runs]
    known = [ends for ends in found if ends is not None]
    brackets = _brackets(np.mean(known, axis=0).tolist()) if len(known) == len(runs) else ""
    values = _metrics(runs, name)
    return f"{np.mean(values):.3f}{brackets} ({', '.join(f'{value:.3f}' for value in values)})"


def _of_seeds(values: Sequence[float], digits: int = 3, unit: str = "") -> str:
    """Return the mean, and each value in brackets if there are several."""
    if not values:
        return ""
    each = f" ({', '.join(f'{value:.{digits}f}' for value in values)})" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{unit}{each}"


def write_sections(page: Path, sections: Mapping[str, Sequence[str]]) -> None:
    """Put each table between <!-- NAME --> and <!-- /NAME -->."""
    text = page.read_text(encoding="utf-8")
    for name, lines in sections.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise SystemExit(f"{page} has no section {name}: add {begin.strip()} and {end}")
        text = before + begin + "\n" + "\n".join(lines) + "\n\n" + end + after
    write_text(page, text)


def main(records: Path, pages: Path) -> None:
    """Write every table."""
    runs = read_runs([records])
    rows = [run for run in runs if ROWS_FOLDER in run.folder.parts]
    write_sections(pages / "results.md", row_sections(rows))
    write_sections(pages / "earlier_results.md", earlier_sections([run for run in runs if run not in rows]))


def row_sections(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Return the tables of all methods on equal terms."""
    linear, tuned = segmentation_groups(runs)
    return {"rows": all_methods(linear, speed=False), "rows-finetuned": all_methods(tuned, speed=True)}


def earlier_sections(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Return the tables of the settings of before 2026-11-27."""
    pretrained = [run for run in runs if run.record.kind == "pretrain"]
    usual = [run for run in pretrained if "settings" not in run.folder.parts]
    linear, tuned = segmentation_groups(runs)
    of_most_labels = [list({group.store: group for group in part}.values()) for part in (linear, tuned)]
    few = [run for run in runs if "few" in run.folder.parts]
    also_elsewhere = [group for group in linear if any("few" not in run.folder.parts for run in group.runs)]
    return {
        "matching": matching_table(run for run in usual if run.record.config["method"] == OURS),
        "linear": labels_table(also_elsewhere, min(map(_steps, usual))),
        "methods": all_methods(of_most_labels[0], speed=False),
        "finetuned": all_methods(of_most_labels[1], speed=True),
        "settings": settings_table(of_most_labels[0], pretrained),
        "few": few_labels_table(groups(few)),
    }


def segmentation_groups(runs: Sequence[Run]) -> tuple[list[Group], list[Group]]:
    """Return the groups of linear and of fine-tuned segmentation runs, by store and number of labels."""
    found = sorted(groups(runs), key=lambda group: (group.store, group.labels or 0))
    linear, tuned = (
        [group for group in found if (group.protocol, group.metric) == (protocol, "DSC")]
        for protocol in ("linear", "finetune")
    )
    return linear, tuned


def all_methods(found: Sequence[Group], *, speed: bool) -> list[str]:
    """Return the tables of all methods of each group, with an empty line between two."""
    return [line for group in found for line in (*methods_table(group, speed=speed), "")][:-1]


if __name__ == "__main__":
    here = Path(__file__).parent
    given = [Path(word) for word in sys.argv[1:]]
    main(*given, *(here / "records", here)[len(given) :])
