"""Convolutions of 3x3x3 that are sound in bf16 and faster than PyTorch's own, with the same results."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

SMALL = 20480
"""Channels times the first two sides up to which PyTorch 2.13 convolves a single float32 volume by code of its own,
which takes two to six times as long as oneDNN (`use_mkldnn` in aten/src/ATen/native/Convolution.cpp)."""
ONES = [1, 1, 1]


class SoundConv3d(nn.Conv3d):
    """A convolution whose gradient is sound in bf16 on the CPU too, and faster there in float32.

    On the CPU, PyTorch 2.13 leaves the weights' gradient of a bf16 convolution partly uninitialised where the first
    side is 2, as at the bottleneck for a crop of 32. In that case this layer computes in float32.
    """

    recomputed = False
    """True if activations are recomputed: then PyTorch's own convolution is used, since ours would be run again."""

    def forward(self, features: Tensor) -> Tensor:
        """Convolve: (B, in_channels, D, H, W) to (B, out_channels, d, h, w)."""
        return self.convolve(features, self.weight, self.bias)

    def convolve(self, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve with other weights, such as those of a part of the channels."""
        if features.device.type == "cpu" and features.shape[2] == 2:
            with torch.autocast("cpu", enabled=False):
                return self._convolve(features.to(weight.dtype), weight, bias)
        return self._convolve(features, weight, bias)

    def _convolve(self, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        sizes = (self.kernel_size, self.padding, self.stride, self.dilation)
        keeps_size = sizes == ((3, 3, 3), (1, 1, 1), (1, 1, 1), (1, 1, 1)) and self.groups == 1
        plain = keeps_size and self.padding_mode == "zeros" and features.dim() == 5
        if plain and not self.recomputed and _is_for_onednn(features):
            result: Tensor = _SameSizeConvolution.apply(features, weight, bias)
            return result
        return self._conv_forward(features, weight, bias)


def _is_for_onednn(features: Tensor) -> bool:
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined]
        return False  # and nothing below is asked, which a compiler would break its graph at
    return (
        features.device.type == "cpu"
        and features.dtype is torch.float32
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()
    )


class _SameSizeConvolution(torch.autograd.Function):
    """A 3x3x3 convolution that keeps the size, in the ways that oneDNN is fast in.

    Small single volumes are convolved as two halves. And the weights' gradient is that of an input which is already
    padded along the first side: with AVX2, oneDNN takes twice as long where it has to pad that side itself.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return _convolve(features, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.save_for_forward(*inputs[:2])

    @staticmethod
    def jvp(ctx: Any, features: Tensor | None, weight: Tensor | None, bias: Tensor | None) -> Tensor | None:
        at_features, at_weight = ctx.saved_tensors
        parts = []
        if features is not None:
            parts.append(_convolve(features, at_weight, None))
        if weight is not None:
            parts.append(_convolve(at_features, weight, None))
        if bias is not None:
            parts.append(bias.view(1, -1, 1, 1, 1).expand(len(at_features), -1, *at_features.shape[2:]))
        return sum(parts[1:], start=parts[0]) if parts else None

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        features, weight = ctx.saved_tensors
        for_features, for_weight, for_bias = ctx.needs_input_grad
        of_features = of_weight = of_bias = None
        if for_features:
            of_features = _convolve(gradient, weight.flip(2, 3, 4).transpose(0, 1), None)
        if for_weight or for_bias:
            split = _halves if _is_small(features) else _whole
            _, of_weight, of_bias = torch.ops.aten.convolution_backward(
                split(gradient, 0),
                split(features, 1),
                weight,
                [len(weight)],
                stride=ONES,
                padding=[0, 1, 1],
                dilation=ONES,
                transposed=False,
                output_padding=[0, 0, 0],
                groups=1,
                output_mask=[False, for_weight, for_bias],
            )
        return of_features, of_weight, of_bias


def _convolve(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if not _is_small(features):
        return functional.conv3d(features, weight, bias, padding=1)
    halves = functional.conv3d(_halves(features, 1), weight, bias, padding=(0, 1, 1))
    return torch.cat(halves.chunk(2), dim=2)[:, :, : features.shape[2]]


def _is_small(features: Tensor) -> bool:
    batch, channels, depth, height, _ = features.shape
    return batch == 1 and channels * depth * height <= SMALL


def _whole(volumes: Tensor, margin: int) -> Tensor:
    """Return volumes padded by a margin along the first side."""
    return functional.pad(volumes, (0, 0, 0, 0, margin, margin))


def _halves(volume: Tensor, margin: int) -> Tensor:
    """Return a volume padded by a margin along the first side as a batch of two halves, which overlap by both margins.

    The second half of an odd side ends with zeros.
    """
    half = (volume.shape[2] + 1) // 2
    padded = functional.pad(volume, (0, 0, 0, 0, margin, margin + 2 * half - volume.shape[2]))
    return torch.cat([padded[:, :, : half + 2 * margin], padded[:, :, half:]])
