"""Figure 7: local features at voxels of each structure in t-SNE's plane, and how well they separate structures."""

from collections.abc import Sequence
from functools import partial
from statistics import fmean

from gvsl.report.figures.scatter import LOOKS, draw_scatter
from gvsl.report.grouping import ChartGroup, chart_groups
from gvsl.report.numbers import capital, number, percent, plural
from gvsl.report.page import Html, mean_and_spread, table
from gvsl.report.panels import Block, Entry, Panel, block_html
from gvsl.report.runs import Run
from gvsl.report.sections.names import seed_links

LEAD = (
    "A point is a voxel of a validation case, its colour and shape the structure. t-SNE places similar features close "
    "to each other, and its distances mean no more than that: the values below are of the features themselves. The "
    "silhouette is 1 if each structure is a tight cluster far from the others, 0 if they overlap, and negative if "
    "voxels lie closer to another structure. Neighbours right: the fraction of voxels whose structure most of their "
    "nearest neighbours have, all of them of other cases."
)
HEADER = ("Method", "Seeds", "Silhouette", "Neighbours right", "Largest structure alone", "Voxels", "Cases")


def feature_clusters(runs: Sequence[Run]) -> tuple[list[Block], list[Html]]:
    """Return the figure's blocks, and the same as parts of the page; nothing if no run has clusters."""
    found, _ = chart_groups(runs, lambda run: run.record.status == "finished" and run.clusters is not None, min_arms=1)
    blocks = [_block(group) for group in found]
    return blocks, [block_html(shown, _table(group)) for shown, group in zip(blocks, found, strict=True)]


def _block(group: ChartGroup) -> Block:
    clusters = [run.clusters for runs in group.arms.values() for run in runs if run.clusters is not None]
    names = list(dict.fromkeys(name for each in clusters for name in each.names))
    entries = [
        Entry(name, LOOKS[index % len(LOOKS)][0], marker=LOOKS[index % len(LOOKS)][1])
        for index, name in enumerate(names)
    ]
    panels = []
    for method, runs in group.arms.items():
        shown = next((run for run in runs if run.clusters is not None and len(run.clusters.points)), runs[0])
        found, metrics = shown.clusters, shown.record.metrics
        assert found is not None
        caption = (
            f"Silhouette {number(metrics.get('silhouette'))}, neighbours right "
            f"{percent(metrics.get('knn_accuracy'), 1)}; seed {shown.record.seed}."
        )
        caption += "".join(f" {capital(note)}." for note in found.notes)
        series = {index: names.index(name) for index, name in enumerate(found.names)}
        alt = f"t-SNE of the features of {method} at {plural(len(found.groups), 'voxel')} of {', '.join(found.names)}"
        points, groups = found.points, found.groups[: len(found.points)]
        draw = partial(draw_scatter, points=points, groups=groups, places=series)
        panels.append(Panel(method, draw, alt, caption))
    return Block(group.title, group.notes, entries, panels)


def _table(group: ChartGroup) -> Html:
    rows: list[list[Html | str]] = []
    for method, runs in group.arms.items():
        shown = [run.clusters for run in runs if run.clusters is not None]
        rows.append(
            [
                method,
                seed_links(runs),
                mean_and_spread(run.record.metrics.get("silhouette") for run in runs),
                mean_and_spread(run.record.metrics.get("knn_accuracy") for run in runs),
                number(fmean(each.largest_fraction for each in shown)),
                ", ".join(dict.fromkeys(str(len(each.groups)) for each in shown)),
                ", ".join(dict.fromkeys(str(len(each.cases)) for each in shown)),
            ]
        )
    caption = "Mean ± standard deviation over seeds. Largest structure alone: the accuracy of always guessing it."
    return table(HEADER, rows, 1, caption)
