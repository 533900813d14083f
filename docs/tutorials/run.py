"""Run tutorials from an empty folder, and keep what they print and draw.

    python docs/tutorials/run.py NOTEBOOK ... [--out DIR]

Each runs in a kernel of this Python. Without --out the notebooks are rewritten in place.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import nbformat
from jupyter_client import KernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient import NotebookClient
from nbformat import NotebookNode

SECONDS = 1800
"""Time that one cell may take, on a busy machine."""


class ThisPython(KernelManager):
    """A kernel of the Python that runs this file, whatever kernels are installed."""

    @property
    def kernel_spec(self) -> KernelSpec:
        """How the kernel is started."""
        return KernelSpec(argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"])


def run(notebook: Path, out: Path) -> None:
    """Run one notebook and write it, with its outputs but without progress and times, to `out`."""
    content = nbformat.read(notebook, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            content,
            timeout=SECONDS,
            kernel_manager_class=ThisPython,
            record_timing=False,
            resources={"metadata": {"path": folder}},
        )
        client.execute()
    for cell in content.cells:
        if cell.cell_type == "code":
            cell.outputs = _joined(output for output in cell.outputs if output.get("name") != "stderr")
    shown = nbformat.writes(content)
    out.write_text(shown.replace(f"{Path(folder).resolve()}/", "").replace(f"{folder}/", "") + "\n", encoding="utf-8")


def _joined(outputs: Iterable[NotebookNode]) -> list[NotebookNode]:
    """Return outputs with the parts of a text joined, into which the kernel divides it by its timing."""
    found: list[NotebookNode] = []
    for output in outputs:
        if found and output.output_type == found[-1].output_type == "stream":
            found[-1].text += output.text
        else:
            found.append(output)
    return found


def main() -> None:
    """Run the notebooks that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("notebooks", type=Path, nargs="+", metavar="NOTEBOOK")
    parser.add_argument("--out", type=Path, metavar="DIR", help="an existing folder to write to instead")
    options = parser.parse_args()
    for notebook in options.notebooks:
        run(notebook, (options.out or notebook.parent) / notebook.name)


if __name__ == "__main__":
    main()
