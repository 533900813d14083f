"""Two processes that talk through gloo, against one that has everything."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gvsl.losses import nt_xent
from gvsl.methods.deepcluster import DeepCluster, DeepClusterSettings
from gvsl.methods.distributed import all_gather, gather_objects, local_offset

WORKER = """
import os, sys
import torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from gvsl.backbones import UNet3D
from gvsl.losses import nt_xent
from gvsl.methods.deepcluster import DeepCluster, DeepClusterSettings
from gvsl.methods.distributed import all_gather, gather_objects, local_offset
rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
data = torch.load(f"{folder}/data.pt", weights_only=True)
mine = slice(3 * rank, 3 * rank + 3)
layer = torch.nn.Linear(5, 4)
layer.load_state_dict(data["layer"])
parallel = DistributedDataParallel(layer)
first, second = parallel(torch.cat([data["first"][mine], data["second"][mine]])).chunk(2)
keys = data["keys"][mine]
gathered = all_gather(first), all_gather(second), all_gather(keys)
loss = nt_xent(first, second, keys, 0.2, gathered=gathered, offset=local_offset(3))
loss.backward()
torch.manual_seed(rank)  # whatever this process drew before
method = DeepCluster(UNet3D(width=8, levels=3), DeepClusterSettings(clusters=3, components=3))
method.backbone.load_state_dict(data["backbone"])
share = [(str(index), data["volumes"][index]) for index in range(rank, 9, 2)]  # five here, four there
figures = method.start_epoch(share, torch.Generator().manual_seed(5))
found = {"loss": loss.detach(), "gradient": layer.weight.grad, "objects": gather_objects(rank),
         "labels": method.labels, "top": method.top.weight.detach()}
torch.save(found, f"{folder}/{rank}.pt")
dist.barrier()
os._exit(0)  # what gloo's threads do while an interpreter ends is none of this test's business
"""


@pytest.mark.slow
def test_two_processes_are_one(tmp_path: Path) -> None:
    from gvsl.backbones import UNet3D

    torch.manual_seed(0)
    layer = torch.nn.Linear(5, 4)
    first, second = torch.randn(2, 6, 5)
    keys = torch.tensor([0, 1, 2, 3, 1, 5])  # a subject that both processes have is no negative
    volumes = torch.rand(9, 1, 16, 16, 16) * torch.linspace(0.2, 1, 9).view(9, 1, 1, 1, 1)
    method = DeepCluster(UNet3D(width=8, levels=3), DeepClusterSettings(clusters=3, components=3))
    data = {"layer": layer.state_dict(), "first": first, "second": second, "keys": keys, "volumes": volumes}
    torch.save(data | {"backbone": method.backbone.state_dict()}, tmp_path / "data.pt")
    running = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(rank), str(tmp_path)], stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    for process in running:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]

    loss = nt_xent(layer(first), layer(second), keys, 0.2)
    loss.backward()
    torch.testing.assert_close((found[0]["loss"] + found[1]["loss"]) / 2, loss.detach())
    for rank in range(2):
        torch.testing.assert_close(found[rank]["gradient"], layer.weight.grad)
        assert found[rank]["objects"] == [0, 1]
    assert not torch.equal(found[0]["loss"], found[1]["loss"])

    method.start_epoch([(str(index), volume) for index, volume in enumerate(volumes)], torch.Generator().manual_seed(5))
    for rank in range(2):
        assert found[rank]["labels"] == method.labels
        assert torch.equal(found[rank]["top"], method.top.weight)


def test_one_process_has_what_it_was_given() -> None:
    rows: Tensor = torch.rand(3, 2, requires_grad=True)
    assert all_gather(rows) is rows
    assert local_offset(3) == 0
    assert gather_objects("a") == ["a"]
