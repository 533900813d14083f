"""What pre-training on many volumes and GPUs needs, on paper: python benchmarks/scale.py; docs/scale.md has its table.

Nothing is run. Each assumption is an option, and says where its default comes from.
"""

import argparse
from typing import NamedTuple

VOXEL_BYTES = 2
"""float16, as in the store."""
GRADIENT_BYTES = 4
DRAWN_BYTES = 4
EPOCH_ORDER_BYTES = 8


class Row(NamedTuple):
    """A line of the table."""

    name: str
    value: float
    unit: str


def assumptions() -> argparse.ArgumentParser:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--volumes", type=int, default=100_000, help="in the store")
    add("--side", type=int, default=128, help="of a volume, in voxels, all of which a crop takes")
    add("--gpus", type=int, default=64, help="processes, one a GPU")
    add("--per-node", type=int, default=8, help="GPUs of a machine")
    add("--pairs", type=int, default=2, help="of a step and GPU (the paper's batch)")
    add("--steps", type=int, default=200_000, help="of the run (the paper's)")
    add("--tflop", type=float, default=10.4, help="of a pair's step, width 32; torch's count at 32 cubed, times 64")
    add("--tflops", type=float, default=990.0, help="peak of a GPU in bf16 (H100, its data sheet)")
    add("--efficiency", type=float, default=0.15, help="part of the peak that a step reaches: a guess, never measured")
    add(
        "--compression",
        type=float,
        default=0.6,
        help="size on the disk over in memory (docs/store.md)",
    )
    add("--read-ms", type=float, default=3.9, help="of a core, to read a volume (docs/store.md)")
    add("--parameters", type=float, default=24.0e6, help="of GVSL at width 32")
    add("--node-gbit", type=float, default=200.0, help="network of a machine, in Gbit/s")
    add("--shared-gbit", type=float, default=100.0, help="of the shared disk or object store, in Gbit/s")
    add("--opens", type=float, default=5_000.0, help="files that the shared disk opens a second: a guess")
    return parser


def figures(given: argparse.Namespace) -> list[Row]:
    """Return what follows from the assumptions."""
    shown = 2 * given.pairs * given.gpus
    step = given.pairs * given.tflop / (given.tflops * given.efficiency)
    volume = given.side**3 * VOXEL_BYTES
    read = shown / step
    traffic = read * volume * given.compression
    share = (given.gpus - 1) / given.gpus
    reduced = 2 * share * given.parameters * GRADIENT_BYTES / (given.node_gbit / 8 * 1e9 / given.per_node)
    drawn = given.pairs * given.gpus * given.side**3 * DRAWN_BYTES
    return [
        Row("store on disk", given.volumes * volume * given.compression / 1e9, "GB"),
        Row("arithmetic of a step, alone", 1000 * step, "ms"),
        Row("steps per epoch", given.volumes / shown, ""),
        Row("time per epoch", given.volumes / shown * step, "s"),
        Row("epochs of the run", given.steps * shown / given.volumes, ""),
        Row("time of the run", given.steps * step / 3600, "hours"),
        Row("volumes read per second", read, ""),
        Row("reading cores per machine", read * given.read_ms / 1000 * given.per_node / given.gpus, ""),
        Row("reading rate, all machines", traffic * 8 / 1e9, "Gbit/s"),
        Row("reading rate relative to the shared disk's limit", traffic * 8 / 1e9 / given.shared_gbit, ""),
        Row("files opened relative to the shared disk's limit", read / given.opens, ""),
        Row("store, unpacked, relative to the memory of one machine with 1 TB", given.volumes * volume / 1e12, ""),
        Row("all-reduce of the gradients, without overlap with the backward pass", 1000 * reduced, "ms"),
        Row("order of an epoch, in each reading process", given.volumes * EPOCH_ORDER_BYTES / 1e6, "MB"),
        Row("noise drawn for all processes, in each process, at once", drawn / 1e9, "GB"),
    ]


def table(rows: list[Row]) -> str:
    """Return the rows as a table in Markdown."""
    values = [f"{row.value:,.0f}" if row.value >= 100 else f"{row.value:.2g}" for row in rows]
    lines = [f"| {row.name} | {value} {row.unit}".rstrip() + " |" for row, value in zip(rows, values, strict=True)]
    return "\n".join(["| | |", "| --- | ---: |", *lines])


def main() -> None:
    """Print the table."""
    print(table(figures(assumptions().parse_args())))


if __name__ == "__main__":
    main()
