"""BYOL: predict the embedding that a moving average of the network gives the other view."""

import math
from collections.abc import Iterable
from copy import deepcopy

import torch
from torch import Tensor, nn

from gvsl.backbones import Backbone
from gvsl.heads import ProjectionHead
from gvsl.losses import symmetric_negative_cosine
from gvsl.methods.encoder import global_features, in_float32
from gvsl.methods.two_views import TwoViewMethod
from gvsl.settings.methods import BYOLSettings as BYOLSettings


class BYOL(TwoViewMethod):
    """Predict the embedding that a moving average of the network gives the other view.

    Reference: J.-B. Grill, F. Strub, F. Altché, C. Tallec, P. Richemond, E. Buchatskaya, C. Doersch, B. A. Pires et al.
    Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning. NeurIPS 2020.
    https://arxiv.org/abs/2006.07733

    Raises:
        ValueError: the momentum is out of range, or the views can't be drawn.

    >>> from gvsl.backbones import UNet3D
    >>> list(BYOL(UNet3D(width=8)).parts())  # the target is not trained
    ['encoder', 'projector', 'predictor']
    """

    heads = ("projector", "predictor")

    def __init__(self, backbone: Backbone, settings: BYOLSettings | None = None) -> None:
        settings = settings or BYOLSettings()
        super().__init__(backbone, settings)
        if not 0 <= settings.momentum < 1:
            raise ValueError(f"momentum is {settings.momentum:g}: give 0 or more and less than 1, such as 0.99")
        hidden, size, norm = settings.hidden, settings.projection, settings.norm
        self.projector = ProjectionHead(backbone.global_channels, hidden, size, norm=norm)
        self.predictor = ProjectionHead(size, hidden, size, norm=norm)
        self.target = deepcopy(backbone)
        self.target.decoder = nn.ModuleList()  # the target's local features are not needed
        self.target_projector = deepcopy(self.projector)
        for part in (self.target, self.target_projector):
            part.requires_grad_(False)

    def loss(self, embeddings: Tensor, views: Tensor, keys: Tensor) -> Tensor:
        """Return the negative cosine of each view's prediction and the target's embedding of the other, averaged."""
        with torch.no_grad():
            targets = in_float32(self.target_projector, global_features(self.target, views))
        return symmetric_negative_cosine(in_float32(self.predictor, embeddings), targets)

    def after_step(self, step: int, max_steps: int) -> None:
        """Update the target."""
        momentum = momentum_schedule(step, max_steps, self.settings.momentum)
        ema_update(self.target.encoder.parameters(), self.backbone.encoder.parameters(), momentum)
        ema_update(self.target_projector.parameters(), self.projector.parameters(), momentum)


def momentum_schedule(step: int, max_steps: int, initial: float) -> float:
    """Return the momentum after a step: 1 - (1 - initial) (cos(pi step / max_steps) + 1) / 2, from `initial` to 1.

    >>> momentum_schedule(50, 100, initial=0.9)
    0.95
    """
    return 1 - (1 - initial) * (math.cos(math.pi * min(1.0, step / max_steps)) + 1) / 2


@torch.no_grad()
def ema_update(targets: Iterable[Tensor], sources: Iterable[Tensor], momentum: float) -> None:
    """Update an exponential moving average in place: target = momentum * target + (1 - momentum) * source.

    >>> target = torch.zeros(2)
    >>> ema_update([target], [torch.ones(2)], momentum=0.75)
    >>> target
    tensor([0.2500, 0.2500])
    """
    for target, source in zip(targets, sources, strict=True):
        target.lerp_(source.detach(), 1 - momentum)
