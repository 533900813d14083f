"""Figure 7: local features at voxels of each structure in t-SNE's plane, and how well they tell structures."""

from collections.abc import Sequence
from functools import partial
from statistics import fmean, stdev

from gvsl.report.figures.panels import Block, Entry, Panel, block_html
from gvsl.report.figures.scatter import LOOKS, draw_scatter
from gvsl.report.numbers import MISSING, number, percent, plural, plus_minus
from gvsl.report.page import Html, element, table
from gvsl.report.runs import Run
from gvsl.report.sections.names import seed_links
from gvsl.report.studies import Study, studies

LEAD = (
    "A point is a voxel of a validation case, its colour and shape the structure. t-SNE puts alike features close, and "
    "its distances say no more than that: the figures are of the features themselves. The silhouette is 1 where each "
    "structure is a tight cluster far from the others, 0 where they overlap, and negative where voxels lie closer to "
    "another structure. Neighbours right: the share of voxels whose structure most of their nearest neighbours have, "
    "all of them of other cases."
)
HEADER = ("Method", "Seeds", "Silhouette", "Neighbours right", "Largest structure alone", "Voxels", "Cases")


def clusters(runs: Sequence[Run]) -> tuple[list[Block], list[Html]]:
    """The figure's blocks, and the same as parts of the page; nothing where no run looked at its features."""
    looked = [run for run in runs if run.record.status == "finished" and run.clusters is not None]
    found, _ = studies(looked, least=1)
    blocks, parts = [], []
    for study in found:
        shown = _block(study)
        blocks.append(shown)
        parts.append(block_html(shown, _table(study)))
    return blocks, parts


def _block(study: Study) -> Block:
    names = list(dict.fromkeys(name for runs in study.sides.values() for run in runs for name in _names(run)))
    entries = [
        Entry(name, LOOKS[place % len(LOOKS)][0], marker=LOOKS[place % len(LOOKS)][1])
        for place, name in enumerate(names)
    ]
    panels = []
    for method, runs in study.sides.items():
        shown = next((run for run in runs if run.clusters is not None and len(run.clusters.points)), runs[0])
        found = shown.clusters
        assert found is not None
        said = f"Silhouette {_figure(shown, 'silhouette')}, neighbours right {_share(shown)}; seed {shown.record.seed}."
        said += "".join(f" {note[:1].upper()}{note[1:]}." for note in found.notes)
        places = {group: names.index(name) for group, name in enumerate(found.names)}
        alt = f"t-SNE of the features of {method} at {plural(len(found.groups), 'voxel')} of {', '.join(found.names)}"
        points, groups = found.points, found.groups[: len(found.points)]
        draw = partial(draw_scatter, points=points, groups=groups, places=places)
        panels.append(Panel(method, draw, alt, said))
    return Block(study.title, study.notes, entries, panels)


def _table(study: Study) -> Html:
    rows: list[list[Html | str]] = []
    for method, runs in study.sides.items():
        shown = [run.clusters for run in runs if run.clusters is not None]
        rows.append(
            [
                method,
                seed_links(runs),
                _over_seeds(runs, "silhouette"),
                _over_seeds(runs, "knn_accuracy"),
                number(fmean(each.largest_share for each in shown)),
                ", ".join(dict.fromkeys(str(len(each.groups)) for each in shown)),
                ", ".join(dict.fromkeys(str(len(each.cases)) for each in shown)),
            ]
        )
    caption = "Mean ± standard deviation over seeds. The largest structure alone is what guessing it always gets right."
    return table(HEADER, rows, 1, caption)


def _names(run: Run) -> list[str]:
    return run.clusters.names if run.clusters is not None else []


def _figure(run: Run, name: str) -> str:
    return number(run.record.metrics.get(name))


def _share(run: Run) -> str:
    return percent(run.record.metrics.get("knn_accuracy"), 1)


def _over_seeds(runs: Sequence[Run], name: str) -> Html | str:
    values = [run.record.metrics[name] for run in runs if name in run.record.metrics]
    if not values:
        return MISSING
    mean = element("b", number(fmean(values)))
    return mean if len(values) < 2 else Html(f"{mean.code} {element('small', plus_minus(stdev(values))).code}")
