"""The viewer: whole volumes to scroll through, with prediction and truth, or as matched pairs."""

import json
from collections.abc import Sequence
from typing import Any

from gvsl.report.numbers import plural
from gvsl.report.page import Html, element, join, section
from gvsl.report.runs import Run
from gvsl.report.sections.names import structure_colours, structure_names
from gvsl.report.volumes import Volume

MOST_BYTES = 30_000_000
"""Of all packed volumes in a page; what doesn't fit is left out, and that is said."""
LEAD = (
    "Click or drag in a plane to move the cross; scroll or Page Up and Page Down change the slice, arrow keys move by "
    "a voxel. In a pair, a click in the fixed image marks its match in the moving one."
)


def viewer(runs: Sequence[Run]) -> Html | None:
    """The section, or None where no run kept volumes."""
    shown = [(run, volume) for run in runs for volume in run.volumes]
    if not shown:
        return None
    entries: list[dict[str, Any]] = []
    blocks: list[Html] = []
    size, left_out = 0, 0
    for run, volume in shown:
        packed = volume.packed()
        taken = sum(map(len, packed.values()))
        if size + taken > MOST_BYTES:
            left_out += 1
            continue
        size += taken
        number = len(entries)
        entries.append(_entry(run, volume))
        blocks += [_block(f"volume-{number}-{name}", "text/plain", data) for name, data in packed.items()]
    said = [element("p", f"{plural(left_out, 'volume')} left out: the page would be too large.", css="quiet")]
    controls = element("div", css="viewer-controls")
    stage = element("div", css="viewer-stage")
    without = element("noscript", element("p", "The viewer needs JavaScript; the slices below don't."))
    body = element(
        "div", controls, stage, element("p", css="viewer-words quiet", aria_live="polite"), css="viewer card"
    )
    data = _block("volumes", "application/json", json.dumps(entries, separators=(",", ":")).replace("<", "\\u003c"))
    return section("viewer", "Volumes", LEAD, without, body, *(said if left_out else []), data, join(blocks))


def _entry(run: Run, volume: Volume) -> dict[str, Any]:
    """What the script needs to know of a volume."""
    names = structure_names([run])
    colours = structure_colours(names)
    return {
        "run": run.label,
        "title": volume.title,
        "kind": volume.kind,
        "arrays": {
            name: {"shape": list(array.shape), "type": array.dtype.name} for name, array in volume.arrays.items()
        },
        "labels": [{"value": value, "name": name, "colour": colours[value]} for value, name in names.items()],
    }


def _block(name: str, kind: str, content: str) -> Html:
    """Data for the script, which no browser runs; `content` holds no `<`."""
    if "<" in content:
        raise ValueError(f"{name} would end its own block")
    return Html(f'<script type="{kind}" id="{name}">{content}</script>')
