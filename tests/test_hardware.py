from dataclasses import replace

import pytest
import torch

from gvsl import hardware
from gvsl.errors import UserError
from gvsl.hardware import computes_bf16, device_facts, find_device, resolve_precision
from gvsl.records import environment
from gvsl.settings.pretrain import TrainerSettings
from gvsl.settings.transfer import TransferSettings

Settings = TrainerSettings | TransferSettings


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


def test_the_cpu_computes_in_bf16_if_it_has_instructions_for_it() -> None:
    if torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "NO AVX", "AVX2"):
        assert not computes_bf16(torch.device("cpu"))


@pytest.mark.parametrize("settings", [TrainerSettings(device="cpu"), TransferSettings(device="cpu")])
@pytest.mark.parametrize(
    ("asked", "fast", "expected", "noted"),
    [
        ("auto", True, "bf16", False),
        ("auto", False, "fp32", False),
        ("bf16", True, "bf16", False),
        ("bf16", False, "bf16", True),
        ("fp32", True, "fp32", False),
        ("fp32", False, "fp32", False),
    ],
)
def test_auto_precision_is_bf16_where_the_hardware_computes_in_it(
    settings: Settings,
    asked: str,
    fast: bool,
    expected: str,
    noted: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(hardware, "computes_bf16", lambda device: fast)
    asking = replace(settings, precision=asked)  # type: ignore[arg-type]
    assert resolve_precision(asking) == replace(settings, precision=expected)  # type: ignore[arg-type]
    said = capsys.readouterr().err
    assert ("precision bf16 is slow on this hardware" in said) is noted
    assert said.count("\n") == noted


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")
def test_a_missing_gpu_is_a_users_mistake() -> None:
    with pytest.raises(UserError, match="device is cuda"):
        find_device("cuda")
