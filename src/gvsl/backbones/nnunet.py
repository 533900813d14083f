"""The networks of nnU-Net: its tensors have nnU-Net's names, so that the weights fit nnU-Net as it is."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from math import prod
from pydoc import locate
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gvsl.backbones.backbone import TransposedUNet
from gvsl.backbones.convolution import SoundConv3d
from gvsl.errors import UserError
from gvsl.io import UnusableFile, format_sizes

PACKAGE = "dynamic_network_architectures"
BLOCKS = (1, 3, 4, 6, 6)
"""Residual blocks of nnU-Net's ResEnc presets; each further level has as many as the last."""
IMPORTED = ("conv_op", "norm_op", "dropout_op", "nonlin")
"""The arguments of its networks that name a class."""
LAST_LAYERS = ".seg_layers."
"""Part of the names of its segmentation layers, which are no part of a backbone."""


class NNUNetBackbone(TransposedUNet):
    """Base of nnU-Net's networks, without their segmentation layers, and with each tensor under one name.

    Odd sides are halved rounding up, and what the transposed convolutions make too large is cut to the skip's size;
    where the levels divide the sides, the features are nnU-Net's to the last digit.

    Source: F. Isensee et al. nnU-Net Revisited: A Call for Rigorous Validation in 3D Medical Image Segmentation.
    MICCAI 2024. https://arxiv.org/abs/2404.09556
    """

    architecture: ClassVar[str]
    """The class of PACKAGE, as nnU-Net's plans name it."""
    encoder: Any

    def __init__(
        self,
        in_channels: int = 1,
        width: int = 32,
        levels: int = 5,
        checkpoint_activations: bool = False,
        *,
        max_width: int = 320,
    ) -> None:
        """Build with nnU-Net's random weights.

        Raises:
            ValueError: a size is out of its range.
            UserError: PACKAGE is not installed.
        """
        if max_width < width:
            raise ValueError(f"max_width is {max_width}: give {width}, the width, or more")
        super().__init__(
            in_channels, [min(width * 2**level, max_width) for level in range(levels)], checkpoint_activations
        )
        self.max_width = max_width
        stock = for_any_size(self.stock(1, conv_op=SoundConv3d))
        self.encoder = stock.encoder
        self.decoder = nn.ModuleDict({"transpconvs": stock.decoder.transpconvs, "stages": stock.decoder.stages})

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the network but for channels and classes, as JSON values of nnU-Net's plans."""
        return {
            "n_stages": self.levels,
            "features_per_stage": self.channels,
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[3, 3, 3]] * self.levels,
            "strides": [[1, 1, 1]] + [[2, 2, 2]] * (self.levels - 1),
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        }

    def stock(self, classes: int, **changes: Any) -> Any:
        """Return nnU-Net's own network of this size with its random weights.

        Args:
            classes: of its segmentation layers.
            changes: arguments that replace its own.

        Raises:
            UserError: PACKAGE is not installed.
        """
        require_package(self.name)
        from dynamic_network_architectures.architectures import unet

        arguments = self.arguments()
        named = {name: locate(arguments[name]) for name in IMPORTED if arguments[name] is not None}
        kind = getattr(unet, self.architecture.rpartition(".")[2])
        network = kind(input_channels=self.in_channels, num_classes=classes, **(arguments | named | changes))
        network.apply(network.initialize)
        return network

    def stock_tensors(self) -> dict[str, Tensor]:
        """Return its tensors as nnU-Net's checkpoints list them, some under several names; without the last layers."""
        with torch.device("meta"):
            names = self.stock(1).state_dict()
        own = self.state_dict()
        return {name: own[own_name(name)] for name in names if LAST_LAYERS not in name}

    def check(self, shape: Sequence[int]) -> None:
        """Check that more than one voxel is left at the last level, which instance normalisation needs."""
        if prod(-(-side // 2 ** (self.levels - 1)) for side in shape) == 1:
            raise ValueError(
                f"{format_sizes(shape)} voxels leave a single one at the last of {self.levels} levels, which the "
                f"instance normalisation of {self.name} can't take: larger crops or images, or fewer levels"
            )

    def _encode(self, image: Tensor) -> list[Tensor]:
        """Return the encoder's features of each level, from the finest on."""
        try:
            self.check(image.shape[2:])
        except ValueError as error:
            raise UnusableFile(str(error)) from None
        features, found = image, []
        if getattr(self.encoder, "stem", None) is not None:
            features = self.encoder.stem(features)
        for level in self.encoder.stages:
            features = self._run(level, features)
            found.append(features)
        return found


class ResEnc(NNUNetBackbone):
    """nnU-Net's U-Net with a residual encoder: that of its presets M, L and XL, which differ in patch and batch alone.

    >>> network = ResEnc(width=8, levels=3)
    >>> features = network(torch.rand(1, 1, 16, 20, 23))
    >>> features.global_.shape, features.local.shape
    (torch.Size([1, 32, 4, 5, 6]), torch.Size([1, 8, 16, 20, 23]))
    """

    name = "resenc"
    title = "nnU-Net's U-Net with a residual encoder"
    stem_key = "encoder.stem.convs.0.all_modules.0.weight"
    architecture = f"{PACKAGE}.architectures.unet.ResidualEncoderUNet"

    def __init__(
        self,
        in_channels: int = 1,
        width: int = 32,
        levels: int = 5,
        checkpoint_activations: bool = False,
        *,
        blocks: Sequence[int] = (),
        max_width: int = 320,
    ) -> None:
        """Build with nnU-Net's random weights, see `NNUNetBackbone`.

        Args:
            in_channels: of the image.
            width: channels of the first level.
            levels: the number of resolutions.
            checkpoint_activations: recompute each level's activations in the backward pass.
            blocks: residual blocks of each level of the encoder; BLOCKS if empty.
            max_width: limit for the channels of a level.
        """
        self.blocks = tuple(blocks) or (BLOCKS + BLOCKS[-1:] * levels)[:levels]
        if len(self.blocks) != levels:
            raise ValueError(f"blocks is {list(self.blocks)}: give one number for each of {levels} levels")
        super().__init__(in_channels, width, levels, checkpoint_activations, max_width=max_width)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of nnU-Net's network, see `NNUNetBackbone.arguments`."""
        own = {"n_blocks_per_stage": list(self.blocks), "n_conv_per_stage_decoder": [1] * (self.levels - 1)}
        return super().arguments() | own


class PlainConv(NNUNetBackbone):
    """nnU-Net's default U-Net: two convolutions a level, the first of which halves the sides.

    >>> PlainConv(width=8, levels=3).global_channels
    32
    """

    name = "plainconv"
    title = "nnU-Net's U-Net"
    stem_key = "encoder.stages.0.0.convs.0.all_modules.0.weight"
    architecture = f"{PACKAGE}.architectures.unet.PlainConvUNet"

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of nnU-Net's network, see `NNUNetBackbone.arguments`."""
        own = {"n_conv_per_stage": [2] * self.levels, "n_conv_per_stage_decoder": [2] * (self.levels - 1)}
        return super().arguments() | own


def own_name(name: str) -> str:
    """Return the one name that a backbone has for a tensor of nnU-Net's.

    >>> own_name("decoder.encoder.stages.0.blocks.1.conv2.norm.bias")
    'encoder.stages.0.blocks.1.conv2.all_modules.1.bias'
    """
    name = name.removeprefix("decoder.") if name.startswith("decoder.encoder.") else name
    return name.replace(".conv.", ".all_modules.0.").replace(".norm.", ".all_modules.1.")


def own_tensors(stock: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint of nnU-Net by a backbone's names, without those of its last layers."""
    return {own_name(name): value for name, value in stock.items() if LAST_LAYERS not in name}


def for_any_size(network: Any) -> Any:
    """Change nnU-Net's network in place so that it takes odd sides, can be pickled and has each tensor once.

    Where the levels divide the sides, it computes the same.
    """
    for module in network.modules():
        if isinstance(module, nn.AvgPool3d):  # beside convolutions, which round up
            module.ceil_mode = True
        if not isinstance(getattr(module, "skip", module), nn.Module):  # a lambda
            module.skip = nn.Identity()
        if hasattr(module, "all_modules"):  # holds the others under a second name
            for twin in ("conv", "norm"):
                delattr(module, twin)
    return network


def require_package(name: str) -> None:
    """Check that the package with nnU-Net's networks is installed; UserError that names the extra if not."""
    if find_spec(PACKAGE) is None:
        raise UserError(f"backbone {name} needs {PACKAGE}, which is not installed: pip install 'gvsl[nnunet]'")
