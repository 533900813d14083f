"""Backbones of nnU-Net with a run's head, as networks that TorchScript and ONNX take, for images of any size."""

from typing import Any

import torch
from torch import Tensor, nn

from gvsl.backbones.nnunet import NNUNetBackbone, for_any_size
from gvsl.export import gvsl_unet


class Levels(nn.Module):
    """The levels of the backbone."""

    def __init__(self, backbone: NNUNetBackbone) -> None:
        """Build with the weights of a backbone."""
        super().__init__()
        network = for_any_size(backbone.stock(1))
        for block in network.modules():
            if hasattr(block, "apply_se"):  # TorchScript compiles also what a switch leaves out
                block.drop_path, block.squeeze_excitation = nn.Identity(), nn.Identity()
        network.load_state_dict(backbone.state_dict(), strict=False)
        stem = getattr(network.encoder, "stem", None)
        self.stem = nn.Identity() if stem is None else stem
        self.levels = nn.ModuleList(network.encoder.stages)
        self.transpconvs = network.decoder.transpconvs
        self.stages = network.decoder.stages

    def encode(self, image: Tensor) -> list[Tensor]:
        """Return the encoder's features of each level, from the finest on; the last are the global ones."""
        found: list[Tensor] = []
        features = self.stem(image)
        for level in self.levels:
            features = level(features)
            found.append(features)
        return found

    def decode(self, skips: list[Tensor]) -> Tensor:
        """Return the local features."""
        local = skips[-1]
        for index, (enlarge, stage) in enumerate(zip(self.transpconvs, self.stages)):  # noqa: B905 - TorchScript's zip
            skip = skips[len(skips) - 2 - index]
            local = enlarge(local)[:, :, : skip.shape[2], : skip.shape[3], : skip.shape[4]]
            local = stage(torch.cat([local, skip], 1))
        return local


class Features(Levels):
    """Local and global features, as of `gvsl_unet.Features`."""

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return local and global features."""
        skips = self.encode(image)
        return self.decode(skips), skips[-1]


class Encoder(Levels):
    """Global features alone, as of `gvsl_unet.Encoder`."""

    def forward(self, image: Tensor) -> Tensor:
        """Return global features."""
        return self.encode(image)[-1]


class Segmenter(Levels):
    """Logits of a segmentation run, as of `gvsl_unet.Segmenter`."""

    def __init__(self, backbone: NNUNetBackbone, head: Any) -> None:
        """Build with the weights of a backbone and of its run's head."""
        super().__init__(backbone)
        self.head = gvsl_unet.SegmentationHead(backbone.local_channels, head.out_channels, head.kernel_size[0])
        self.head.load_state_dict(head.state_dict())

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits."""
        return self.head(self.decode(self.encode(image)))


class Classifier(Levels):
    """The logit of a classification run, as of `gvsl_unet.Classifier`."""

    def __init__(self, backbone: NNUNetBackbone, head: Any) -> None:
        """Build with the weights of a backbone and of its run's head."""
        super().__init__(backbone)
        self.head = gvsl_unet.ClassificationHead(backbone.global_channels)
        self.head.load_state_dict(head.state_dict())

    def forward(self, image: Tensor) -> Tensor:
        """Return the logit."""
        return self.head(self.encode(image)[-1].mean(dim=[2, 3, 4]))
