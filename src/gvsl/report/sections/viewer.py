"""The viewer: whole volumes to scroll through, with prediction and truth, or as matched pairs."""

import gzip
import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gvsl.report.numbers import plural
from gvsl.report.page import Html, element, join, section
from gvsl.report.run_arrays import Volume
from gvsl.report.runs import Run
from gvsl.report.sections.names import structure_colours, structure_names
from gvsl.report.sections.pictures import view_switch

MAX_BYTES = 30_000_000
"""Maximum size of all packed volumes in a page; the page names how many are left out."""
LEAD = (
    "Click or drag in a plane to move the cross; scroll or press Page Up and Page Down to change the slice; arrow keys "
    "move by a voxel. In a pair, a click in the fixed image marks its match in the moving one."
)


@dataclass(frozen=True)
class Shown:
    """A volume to view."""

    label: str
    """Name of the run."""
    volume: Volume
    names: Mapping[int, str] = field(default_factory=dict)
    """Label value to name of the structures."""


def viewer(runs: Sequence[Run]) -> Html | None:
    """Make the section and the data for its script; None if no run kept volumes."""
    shown = [Shown(run.label, volume, structure_names([run])) for run in runs for volume in run.volumes]
    return view(shown) if shown else None


def view(shown: Sequence[Shown]) -> Html:
    """Make the section of volumes, and the data for its script."""
    entries: list[dict[str, Any]] = []
    blocks: list[Html] = []
    size = 0
    for one in shown:
        packed = _packed(one.volume)
        taken = sum(map(len, packed.values()))
        if size + taken <= MAX_BYTES:
            size += taken
            blocks += [_block(f"volume-{len(entries)}-{name}", "text/plain", data) for name, data in packed.items()]
            entries.append(_entry(one))
    left_out = len(shown) - len(entries)
    too_large = element("p", f"{plural(left_out, 'volume')} left out: the page would be too large.", css="quiet")
    body = element(
        "div",
        element("div", css="viewer-controls"),
        element("div", css="viewer-stage"),
        element("p", css="viewer-words quiet", aria_live="polite"),
        css="viewer card",
    )
    data = _block("volumes", "application/json", json.dumps(entries, separators=(",", ":")).replace("<", "\\u003c"))
    without = element("noscript", element("p", "The viewer needs JavaScript; the slices below don't."))
    parts = [without, view_switch(), body, *([too_large] if left_out else []), data, join(blocks)]
    return section("viewer", "Volumes", LEAD, *parts)


def _packed(volume: Volume) -> dict[str, str]:
    """Return the bytes of each array in C order, gzipped, in base 64."""
    contents = {name: np.ascontiguousarray(array).tobytes() for name, array in volume.arrays.items()}
    return {name: b64encode(gzip.compress(content, 6, mtime=0)).decode() for name, content in contents.items()}


def _entry(shown: Shown) -> dict[str, Any]:
    """Describe a volume for the script."""
    volume = shown.volume
    colours = structure_colours(shown.names)
    arrays = {name: {"shape": list(array.shape), "type": array.dtype.name} for name, array in volume.arrays.items()}
    labels = [{"value": value, "name": name, "colour": colours[value]} for value, name in shown.names.items()]
    described = {"run": shown.label, "title": volume.title, "kind": volume.kind, "arrays": arrays, "labels": labels}
    return described | {"spacing": list(volume.spacing)}


def _block(name: str, kind: str, content: str) -> Html:
    """Embed data for the script in an element that the browser does not run; `content` must hold no `<`."""
    if "<" in content:
        raise ValueError(f"{name} would end its own block")
    return Html(f'<script type="{kind}" id="{name}">{content}</script>')
