"""The Triton kernels against the plain tensors: run by Triton's interpreter, and compiled for GPUs without one."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from gvsl.losses.centred_ncc import CentredCorrelation

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("triton") is None, reason="needs triton: pip install triton (gvsl[slow])"),
]
TOLERANCE = 2e-6
"""Of value and gradients, relative to their norms; both are float32."""
CASES = [
    *product([((2, 2, 9, 8, 10), 5), ((1, 1, 3, 2, 9), 9)], [None, 0.5], [None, 1, 2]),
    (((1, 1, 9, 9, 9), 1), None, None),
]
ARCHITECTURES = (80, 90)
INTEGERS = {"size", "side", "stride", "depth", "height", "width", "channels", "weight_stride"}
FLOATS = {"uniform_weight", "eps", "balance"}


def outcome(correlation: Any, images: list[Tensor], window: int, balance: float | None, weight: Tensor | None) -> Any:
    """The value and both gradients of three times the correlation."""
    images = [image.clone().requires_grad_() for image in images]
    value = correlation.apply(*images, window, 1e-3, balance, weight)
    return value.detach(), *torch.autograd.grad(3 * value, images)


def compare() -> list[list[float]]:
    """Relative differences of value and gradients from the plain path, in each case."""
    from gvsl.losses.ncc_kernel import FusedCorrelation

    generator = torch.Generator().manual_seed(0)
    found = []
    for (shape, window), balance, weights in CASES:
        fixed, noise = (torch.randn(shape, generator=generator) for _ in range(2))
        images = [fixed + 3, (0.5 * fixed + noise).transpose(3, 4).contiguous().transpose(3, 4)]
        images[1][..., :3] = 100  # flat, and far from the rest
        weight = None
        if weights:
            weight = torch.rand(min(weights, shape[0]), 1, *shape[2:], generator=generator)
        plain, fused = (
            outcome(each, images, window, balance, weight) for each in (CentredCorrelation, FusedCorrelation)
        )
        pairs = zip(plain, fused, strict=True)
        found.append([float((one - other).norm() / one.norm().clamp(min=1e-30)) for one, other in pairs])
    return found


def compiled() -> list[bool]:
    """Whether each kernel, for each kind of GPU, was compiled to machine code without arithmetic in float64."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from gvsl.losses import ncc_kernel

    flags = {"HALF": 4, "WINDOW_HALF": 4, "FIRST": False, "LAST": True, "WEIGHTED": True, "BALANCED": True}
    first = {"FIRST": True, "LAST": False, "WEIGHTED": False, "BALANCED": False}
    kernels = [(ncc_kernel._widen, flags), (ncc_kernel._widen, flags | first), (ncc_kernel._gather, flags)]
    found = []
    for (kernel, chosen), architecture in product(kernels, ARCHITECTURES):
        names = kernel.arg_names
        constants = {name: value for name, value in (chosen | {"BLOCK": ncc_kernel.BLOCK}).items() if name in names}
        kinds = {name: "i32" if name in INTEGERS else "fp32" if name in FLOATS else "*fp32" for name in names}
        source = ASTSource(
            kernel,
            kinds | dict.fromkeys(constants, "constexpr"),
            {(names.index(name),): value for name, value in constants.items()},
        )
        code = triton.compile(source, target=GPUTarget("cuda", architecture, 32)).asm
        found.append(bool(code["cubin"]) and ".f64" not in code["ptx"])
    return found


def traced() -> int:
    """Number of kernels in the one graph of value and gradients that torch.compile makes, as it would for a GPU."""
    import torch.utils._triton
    import triton
    from torch._dynamo.backends.common import aot_autograd
    from torch._dynamo.exc import BackendCompilerFailed
    from triton.backends.compiler import GPUTarget

    from gvsl.losses.ncc_kernel import FusedCorrelation

    class Driver:
        """What a tracer asks a GPU's driver."""

        def get_current_target(self) -> GPUTarget:
            return GPUTarget("cuda", ARCHITECTURES[-1], 32)

    triton.runtime.driver.set_active(Driver())
    vars(torch.utils._triton)["has_triton"] = lambda *_: True  # else the tracer takes no kernel for one
    found: list[int] = []

    def count(joint: Any, *_: Any, **named: Any) -> Any:
        found.append(sum("triton_kernel" in str(node.target) for node in joint.graph.nodes))
        # The trace is all that is looked at: without a GPU nothing can be compiled further. Caught below.
        raise NotImplementedError("the graph could not run without a GPU")

    def correlation(fixed: Tensor, warped: Tensor) -> Any:
        return FusedCorrelation.apply(fixed, warped, 5, 1e-3, None, None)

    images = [torch.rand(1, 1, 9, 9, 9).requires_grad_() for _ in range(2)]
    backend = aot_autograd(fw_compiler=count, partition_fn=count)
    with suppress(BackendCompilerFailed):
        torch.compile(correlation, backend=backend, fullgraph=True)(*images)
    (kernels,) = found
    return kernels


def apart(function: str, **environment: str) -> Any:
    """What a function of this file returns in a process of its own: Triton reads its environment when imported."""
    command = [sys.executable, __file__, function]
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_kernels_have_the_value_and_gradients_of_the_plain_path() -> None:
    found = apart("compare", TRITON_INTERPRET="1")
    assert len(found) == len(CASES)
    assert torch.tensor(found).max() < TOLERANCE


def test_kernels_compile_for_gpus_without_one(tmp_path: Any) -> None:
    """What the interpreter takes and the compiler refuses, such as the types that it can't tell."""
    found = apart("compiled", TRITON_INTERPRET="0", TRITON_CACHE_DIR=str(tmp_path))
    assert found == [True] * 3 * len(ARCHITECTURES)


def test_kernels_are_traced_into_one_graph() -> None:
    assert apart("traced", TRITON_INTERPRET="0") == 3 + 2 * 3


if __name__ == "__main__":
    print(json.dumps({"compare": compare, "compiled": compiled, "traced": traced}[sys.argv[1]]()))
