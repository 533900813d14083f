"""Figure 7: local features at voxels of each structure in t-SNE's plane, and how well they separate structures."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from statistics import fmean

from matplotlib.axes import Axes

from gvsl.report.feature_clusters import FeatureClusters
from gvsl.report.figures.chart import MARKERS, SERIES, gid
from gvsl.report.grouping import Group, chart_groups
from gvsl.report.numbers import capital, number, percent, plural
from gvsl.report.page import Html, mean_and_spread, table
from gvsl.report.panels import Block, Entry, Panel
from gvsl.report.runs import Run
from gvsl.report.sections.names import seed_links

CLUSTERS_LEAD = (
    "A point is a voxel of a validation case, its colour and shape the structure. t-SNE places similar features close "
    "to each other, and its distances mean no more than that: the values below are of the features themselves. The "
    "silhouette is 1 if each structure is a tight cluster far from the others, 0 if they overlap, and negative if "
    "voxels lie closer to another structure. Neighbours right: the fraction of voxels whose structure most of their "
    "nearest neighbours have, all of them of other cases."
)
HEADER = ("Method", "Seeds", "Silhouette", "Neighbours right", "Largest structure alone", "Voxels", "Cases")
CAPTION = "Mean ± standard deviation over seeds. Largest structure alone: the accuracy of always guessing it."
LOOKS = tuple((colour, marker) for marker, colour in product(MARKERS, SERIES))
"""Colour and marker of each structure: all colours with the first marker, then with the next."""


def feature_clusters(runs: Sequence[Run]) -> tuple[list[tuple[Block, Html]], list[Run]]:
    """Return the figure's blocks with their tables; no run is left out for lack of others."""
    found, alone = chart_groups(
        runs, lambda run: run.record.status == "finished" and run.clusters is not None, min_arms=1
    )
    return [(_block(group), _table(group)) for group in found], alone


def _block(group: Group) -> Block:
    names = list(dict.fromkeys(name for run in group.runs if run.clusters for name in run.clusters.names))
    looks = {name: LOOKS[index % len(LOOKS)] for index, name in enumerate(names)}
    entries = [Entry(name, colour, marker=marker) for name, (colour, marker) in looks.items()]
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
        alt = f"t-SNE of the features of {method} at {plural(len(found.groups), 'voxel')} of {', '.join(found.names)}"
        places = {name: names.index(name) for name in found.names}
        panels.append(Panel(method, partial(_draw, found=found, places=places), alt, caption))
    return Block(group.title, group.notes, entries, panels)


def _draw(axes: Axes, found: FeatureClusters, places: Mapping[str, int]) -> None:
    """Draw the points without axes; `places` are the numbers of the structures' legend entries."""
    for index, name in enumerate(found.names):
        x, y = found.points[found.groups[: len(found.points)] == index].T
        colour, marker = LOOKS[places[name] % len(LOOKS)]
        axes.scatter(x, y, s=13, marker=marker, color=colour, alpha=0.75, linewidth=0, gid=gid(places[name]))
    axes.set_axis_off()
    axes.margins(0.03)


def _table(group: Group) -> Html:
    rows: list[list[Html | str]] = []
    for method, runs in group.arms.items():
        shown = [run.clusters for run in runs if run.clusters is not None]
        scores = [
            mean_and_spread(run.record.metrics.get(name) for run in runs) for name in ("silhouette", "knn_accuracy")
        ]
        largest = number(fmean(each.largest_fraction for each in shown))
        counts = [[len(each.groups) for each in shown], [len(each.cases) for each in shown]]
        texts = [", ".join(dict.fromkeys(map(str, each))) for each in counts]
        rows.append([method, seed_links(runs), *scores, largest, *texts])
    return table(HEADER, rows, CAPTION)
