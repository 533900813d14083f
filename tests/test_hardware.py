import pytest
import torch

from gvsl.hardware import device_facts
from gvsl.records import environment


def test_a_cpu_is_named_and_has_no_gpu() -> None:
    assert device_facts("cpu") == {"device": "cpu"}


def test_surroundings_have_cores_memory_and_what_was_computed_on() -> None:
    found = environment(device_facts(torch.device("cpu")))
    assert int(found["cores"]) > 0
    assert float(found["memory"].removesuffix(" GiB")) > 0
    assert found["device"] == "cpu"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_told_by_name_memory_and_cuda_version() -> None:
    found = device_facts("cuda")
    assert found["gpu"] == torch.cuda.get_device_name()
    assert float(found["gpu_memory"].removesuffix(" GiB")) > 1
    assert found["cuda"] == torch.version.cuda
    assert device_facts("cuda", 2)["gpu"] == f"2 x {found['gpu']}"
