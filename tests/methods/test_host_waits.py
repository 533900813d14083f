"""What a step asks of a device that the host would wait for: on a GPU each empties its queue."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

import gvsl
from gvsl.augment import rotate
from gvsl.backbones import UNet3D
from gvsl.methods import METHODS
from gvsl.types import PairBatch

ROOT = Path(gvsl.__file__).parent
SIDE = 16
WAITS = {
    *("item", "tolist", "cpu", "numpy", "__bool__", "__int__", "__float__", "__index__", "nonzero", "bincount"),
    *("masked_select", "unique", "tensor", "as_tensor", "new_tensor", "linalg_solve", "linalg_svdvals"),
}
ON_HOST = {
    ("augment/shuffle.py", "tolist"),  # drawn by `on_host`
    ("augment/rotate.py", "tolist"),  # likewise
    ("losses/contrastive.py", "__bool__"),  # only of keys on a CPU
    *(("methods/deepcluster.py", name) for name in ("tensor", "bincount")),  # counted on the host
    ("methods/embedding_metrics.py", "linalg_svdvals"),  # the one that waits: there is none that doesn't
}


class Asked(TorchFunctionMode):
    """Notes which file of gvsl called what a host waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[tuple[str, str]] = set()

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(function, "__name__", "")
        if name in WAITS:
            frame = sys._getframe(1)
            while frame.f_back and ROOT not in Path(frame.f_code.co_filename).parents:
                frame = frame.f_back
            self.found.add((Path(frame.f_code.co_filename).relative_to(ROOT).as_posix(), name))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", METHODS)
def test_a_step_reads_no_value_off_its_device(name: str) -> None:
    method = METHODS[name](UNet3D(width=8, levels=3))
    generator = torch.Generator().manual_seed(0)
    volumes = torch.rand(24, 1, SIDE, SIDE, SIDE, generator=generator)
    if method.min_epoch_steps is not None:
        method.start_epoch([(str(each), volume) for each, volume in enumerate(volumes)], generator)
    batch = PairBatch(volumes[:2], volumes[2:4], ["0", "1"], ["2", "3"])
    with torch.no_grad(), Asked() as asked:
        method.training_step(batch, generator)
    assert asked.found <= ON_HOST


def test_what_waits_is_found() -> None:
    turn = torch.tensor([1])
    with Asked() as asked:
        rotate(torch.zeros(1, 1, 2, 2, 2), turn)
    assert asked.found == {("augment/rotate.py", "tolist")}
