"""The tables of docs/results.md from run records alone: python docs/results_table.py [docs/records] [docs/results.md].

Each stands in the page between two comments of its name, and is written anew.
"""

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gvsl.report.table1.scores import holm, p_value, scores_of
from numpy.typing import NDArray

from gvsl.files import write_text
from gvsl.methods import METHODS, GVSLSettings
from gvsl.metrics.bootstrap import mean_with_interval
from gvsl.records import RunRecord, find_records

Scores = NDArray[np.float64]
MATCHING = ("ncc_identity", "ncc_affine", "ncc", "dice_before", "dice_after", "folded")
SCRATCH = "scratch"
OURS = "gvsl"
ROWS = "validation DSC | test DSC | to scratch | cases ahead | p against `gvsl`"
"""What the rows of Table 1 say of a method."""


@dataclass(frozen=True)
class Column:
    """What runs must have in common to be compared."""

    store: str
    mode: str
    kernel: int
    labels: int


Probes = Mapping[Column, Mapping[tuple[str, int], Mapping[int, RunRecord]]]
"""Transfer runs by column, then by method and steps of pre-training, then by seed."""


def matching_table(records: Iterable[RunRecord]) -> list[str]:
    """One row a pre-training run that matches: means over its held-out pairs, and the spread of the overlap."""
    lines = [
        "| store | seed | steps | minutes | NCC loss: no warp | affine | all | DSC before | DSC after | folded |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for record in records:
        if not record.cases:
            continue
        mean = {name: np.mean([row[name] for row in record.cases]) for name in MATCHING}
        spread = {name: np.std([row[name] for row in record.cases], ddof=1) for name in MATCHING}
        lines.append(
            f"| {record.store['name']} | {record.seed} | {record.config['trainer']['max_steps']} "
            f"| {record.seconds / 60:.0f} | {mean['ncc_identity']:.3f} | {mean['ncc_affine']:.3f} | {mean['ncc']:.3f} "
            f"| {mean['dice_before']:.3f} ± {spread['dice_before']:.3f} "
            f"| {mean['dice_after']:.3f} ± {spread['dice_after']:.3f} | {100 * mean['folded']:.2f} % |"
        )
    return lines


def probes_of(records: Iterable[RunRecord], steps: Mapping[str, int]) -> Probes:
    """The transfer runs, sorted out.

    Args:
        records: the transfer runs.
        steps: of each pre-training run, by its folder's name.
    """
    found: dict[Column, dict[tuple[str, int], dict[int, RunRecord]]] = defaultdict(lambda: defaultdict(dict))
    for record in records:
        config = record.config
        column = Column(record.store["name"], config["mode"], config["kernel"], len(config["train_cases"]))
        method = config["method"]
        length = 0 if method == SCRATCH else steps[Path(config["weights"]).name]
        found[column][method, length][record.seed] = record
    return found


def labels_table(probes: Probes) -> list[str]:
    """GVSL beside the random network that each seed of it started from: a row a store, labels and steps."""
    lines = [
        "| store | labels | steps | random features | GVSL features | difference | cases ahead |",
        "|---|---|---|---|---|---|---|",
    ]
    for column, rows in sorted(probes.items(), key=lambda item: (item[0].store, item[0].labels)):
        for (method, length), runs in sorted(rows.items()):
            if method == "gvsl":
                random, ours = _paired(rows[SCRATCH, 0], runs)
                gap = (ours - random).mean(axis=0)
                lines.append(
                    f"| {column.store} | {column.labels} | {length} | {_said(random)} | {_said(ours)} "
                    f"| {_gap(gap)} | {(gap > 0).sum()} of {len(gap)} |"
                )
    return lines


def methods_table(probes: Probes, store: str, steps: int) -> list[str]:
    """Table 1 for one store, with all its labels: a row a method, best first."""
    column = max((column for column in probes if column.store == store), key=lambda column: column.labels)
    rows = {method: runs for (method, length), runs in probes[column].items() if length in (0, steps)}
    return [
        f"| {store}, {column.labels} labels | {ROWS} |",
        "|---|---|---|---|---|---|",
        *(f"{line} |" for _, line in _best_first(rows)),
    ]


def finetuned_table(records: Iterable[RunRecord], store: str) -> list[str]:
    """The same of networks that were trained whole, with the first step at 95 % of each seed's best."""
    found = [record for record in records if record.store["name"] == store and record.config["mode"] != "linear"]
    labels = max(len(record.config["train_cases"]) for record in found)
    rows: dict[str, dict[int, RunRecord]] = defaultdict(dict)
    for record in found:
        if len(record.config["train_cases"]) == labels:
            rows[record.config["method"]][record.seed] = record
    return [
        f"| {store}, {labels} labels | {ROWS} | steps to 95 % |",
        "|---|---|---|---|---|---|---|",
        *(f"{line} | {_soon(rows[method])} |" for method, line in _best_first(rows)),
    ]


def _best_first(rows: Mapping[str, Mapping[int, RunRecord]]) -> list[tuple[str, str]]:
    """Each method's name and line, without its last bar: against scratch and against GVSL of the same seeds."""
    lines: list[tuple[float, str, str]] = []
    told = _told_from_ours(rows)
    for method in (SCRATCH, *METHODS):
        if method not in rows:
            continue
        runs = rows[method]
        random, ours = _paired(rows[SCRATCH], runs)
        gap = (ours - random).mean(axis=0)
        validation = np.mean([runs[seed].metrics["val/dice"] for seed in sorted(runs)])
        beside = "| |" if method == SCRATCH else f"| {_gap(gap)} | {(gap > 0).sum()} of {len(gap)}"
        line = f"| `{method}` | {validation:.3f} | {_covered(_dice(runs))} {beside} | {told.get(method, '')}"
        lines.append((float(_dice(runs).mean()), method, line))
    return [(method, line) for _, method, line in sorted(lines, reverse=True)]


def _told_from_ours(rows: Mapping[str, Mapping[int, RunRecord]]) -> dict[str, str]:
    """The p value of each method against GVSL over cases, as in Table 1, corrected for as many comparisons."""
    scores = {method: scores_of([runs[seed] for seed in sorted(runs)]) for method, runs in rows.items()}
    against = {method: p_value(mine, scores[OURS]) for method, mine in scores.items() if method != OURS}
    return {method: "< 0.001" if value < 0.001 else f"{value:.3f}" for method, value in holm(against).items()}


def _dice(runs: Mapping[int, RunRecord]) -> Scores:
    """Test DSC of all seeds: rows are seeds, columns cases."""
    return np.array([[row["dice"] for row in runs[seed].cases] for seed in sorted(runs)])


def _soon(runs: Mapping[int, RunRecord]) -> str:
    """The first validated step with 95 % of the run's best validation score, seed by seed."""
    return ", ".join(f"{runs[seed].metrics['steps_to_95']:.0f}" for seed in sorted(runs))


def _paired(
    random: Mapping[int, RunRecord], ours: Mapping[int, RunRecord], name: str = "dice"
) -> tuple[Scores, Scores]:
    """Test scores of the seeds that both have: rows are seeds, columns cases; one column where the score is of all."""
    seeds = sorted(random.keys() & ours.keys())

    def scores(record: RunRecord) -> list[float]:
        return [row[name] for row in record.cases] if name == "dice" else [record.metrics[f"test/{name}"]]

    first, second = (np.array([scores(runs[seed]) for seed in seeds]) for runs in (random, ours))
    return first, second


def _gap(gap: Scores) -> str:
    return f"{gap.mean():+.3f} ± {gap.std(ddof=1):.3f}"


def _said(table: Scores) -> str:
    """Mean, spread over cases of their means over seeds, and each seed's mean: rows are seeds, columns cases."""
    seeds = ", ".join(f"{mean:.3f}" for mean in table.mean(axis=1))
    return f"{table.mean():.3f} ± {table.mean(axis=0).std(ddof=1):.3f} ({seeds})"


def _covered(table: Scores) -> str:
    """The same with the 95 % interval over cases of their means over seeds."""
    figure = mean_with_interval("dice", list(table.mean(axis=0)))
    seeds = ", ".join(f"{mean:.3f}" for mean in table.mean(axis=1))
    return f"{figure['dice']:.3f} [{figure['dice_low']:.3f}, {figure['dice_high']:.3f}] ({seeds})"


def few_labels_table(records: Iterable[RunRecord]) -> list[str]:
    """One row a store and number of labels: four ways to use them, and how soon two of them are there."""
    found: dict[tuple[str, int], dict[str, dict[int, RunRecord]]] = defaultdict(lambda: defaultdict(dict))
    for record in records:
        config = record.config
        way = "random" if config["mode"] == "linear" and config["method"] == SCRATCH else config["mode"]
        found[record.store["name"], len(config["train_cases"])][way][record.seed] = record
    lines = [
        "| store | labels | linear, random | linear, GVSL | scratch | fine-tuned GVSL | to scratch "
        "| steps to 95 %: scratch | fine-tuned |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (store, labels), ways in sorted(found.items()):
        cells = [_figure(ways[way]) if ways[way] else "" for way in ("random", "linear", "scratch", "finetune")]
        gap, soon = "", ["", ""]
        if ways["scratch"].keys() & ways["finetune"].keys():
            first, second = _paired(ways["scratch"], ways["finetune"], _main(next(iter(ways["scratch"].values()))))
            gap = _gap((second - first).mean(axis=0)) if first.shape[1] > 1 else f"{(second - first).mean():+.3f}"
            soon = [_soon(ways[way]) for way in ("scratch", "finetune")]
        lines.append(f"| {store} | {labels} | " + " | ".join([*cells, gap, *soon]) + " |")
    return lines


def _main(record: RunRecord) -> str:
    """The column of the cases that a run's main figure is the mean of; an AUC is of all of them."""
    return "dice" if "dice" in record.cases[0] else "auc"


def _figure(runs: Mapping[int, RunRecord]) -> str:
    """The main figure: mean over seeds, the mean of the seeds' intervals over cases, each seed's figure."""
    name = "test/" + _main(next(iter(runs.values())))
    seeds = sorted(runs)
    mean, low, high = (np.mean([runs[seed].metrics[name + end] for seed in seeds]) for end in ("", "_low", "_high"))
    each = ", ".join(f"{runs[seed].metrics[name]:.3f}" for seed in seeds)
    return f"{mean:.3f} [{low:.3f}, {high:.3f}] ({each})"


def settings_table(pretrained: Mapping[str, RunRecord], probes: Iterable[RunRecord], steps: int) -> list[str]:
    """One row a set of settings of GVSL that differs from the recipe's, on validation: what it matches and is worth.

    Args:
        pretrained: the runs of GVSL, by folder.
        probes: linear transfers from them.
        steps: of the runs to show.
    """
    default = _flat({"pretext": asdict(GVSLSettings())})  # of settings that an earlier record does not have
    shown = {
        name: default | _flat(run.config)
        for name, run in pretrained.items()
        if run.config["trainer"]["max_steps"] == steps
    }
    worth = {Path(record.config["weights"]).name: record.metrics["val/dice"] for record in probes}
    stores = sorted({pretrained[name].store["name"] for name in shown})
    common = {
        store: _usual([config for name, config in shown.items() if pretrained[name].store["name"] == store])
        for store in stores
    }
    rows: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name in sorted(shown, key=lambda name: pretrained[name].seed):
        store = pretrained[name].store["name"]
        usual = common[store]
        odd = {
            key: value for key, value in shown[name].items() if usual.get(key, json.dumps(value)) != json.dumps(value)
        }
        label = ", ".join(f"`{key.removeprefix('pretext.')}` {value}" for key, value in odd.items()) or "as it is"
        if name in worth:
            rows[label][store].append(name)
    lines = [
        "| settings | " + " | ".join(f"{store}: linear DSC | matching DSC | folded" for store in stores) + " |",
        "|---" * (1 + 3 * len(stores)) + "|",
    ]
    for label in sorted(rows, key=lambda label: (label != "as it is", label)):
        cells = []
        for store in stores:
            names = rows[label][store]
            cells += [
                _seeds([worth[name] for name in names]),
                _seeds([pretrained[name].metrics["val/dice_after"] for name in names]),
                _seeds([100 * pretrained[name].metrics["val/folded"] for name in names], 2, " %"),
            ]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return lines


def _flat(config: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested settings as `part.name`, without the seed."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= _flat(value, f"{above}{key}.") if isinstance(value, Mapping) else {above + key: value}
    flat.pop("seed", None)
    return flat


def _usual(configs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The commonest value of every setting that all have."""
    keys = set(configs[0]).intersection(*configs)
    return {key: Counter(json.dumps(config[key]) for config in configs).most_common(1)[0][0] for key in keys}


def _seeds(values: Sequence[float], digits: int = 3, unit: str = "") -> str:
    """Their mean, and each in brackets if there are several."""
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


def main(records: Path, page: Path) -> None:
    """Write every table."""
    found = find_records([records])
    few = [record for folder, record in found if "few" in folder.parts and record.kind == "transfer"]
    changed = [(folder, record) for folder, record in found if "settings" in folder.parts]
    trained_whole = [record for folder, record in found if {"few", "finetune"}.intersection(folder.parts)]
    others = {"few", "settings", "finetune"}
    whole = [(folder, record) for folder, record in found if not others.intersection(folder.parts)]
    pretrained = {folder.name: record for folder, record in whole if record.kind == "pretrain"}
    lengths = {name: int(record.config["trainer"]["max_steps"]) for name, record in pretrained.items()}
    probes = probes_of((record for _, record in whole if record.kind == "transfer"), lengths)
    common = min(lengths.values())
    methods: list[str] = []
    finetuned: list[str] = []
    for store in sorted({column.store for column in probes}):
        methods += [*methods_table(probes, store, common), ""]
        finetuned += [*finetuned_table(trained_whole, store), ""]
    matching = [record for record in pretrained.values() if record.config["method"] == "gvsl"]
    ours = [(folder, record) for folder, record in [*whole, *changed] if record.config["method"] == "gvsl"]
    settings = settings_table(
        {folder.name: record for folder, record in ours if record.kind == "pretrain"},
        [record for _, record in ours if record.kind == "transfer" and record.config["labels"] is None],
        common,
    )
    sections = {
        "matching": matching_table(matching),
        "linear": labels_table(probes),
        "methods": methods[:-1],
        "finetuned": finetuned[:-1],
        "settings": settings,
        "few": few_labels_table(few),
    }
    write_sections(page, sections)


if __name__ == "__main__":
    here = Path(__file__).parent
    given = [Path(word) for word in sys.argv[1:]]
    main(*given, *(here / "records", here / "results.md")[len(given) :])
