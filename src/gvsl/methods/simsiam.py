"""SimSiam: predict each view's embedding from the other's, which receives no gradient."""

from torch import Tensor

from gvsl.backbones import Backbone
from gvsl.heads import ProjectionHead
from gvsl.losses import symmetric_negative_cosine
from gvsl.methods.encoder import in_float32
from gvsl.methods.two_views import TwoViewMethod
from gvsl.settings.methods import SimSiamSettings as SimSiamSettings


class SimSiam(TwoViewMethod):
    """Predict each view's embedding from the other's, which receives no gradient.

    Reference: X. Chen and K. He. Exploring Simple Siamese Representation Learning. CVPR 2021.
    https://arxiv.org/abs/2011.10566

    Raises:
        ValueError: the views can't be drawn.

    >>> from gvsl.backbones import UNet3D
    >>> list(SimSiam(UNet3D(width=8)).parts())
    ['encoder', 'projector', 'predictor']
    """

    heads = ("projector", "predictor")

    def __init__(self, backbone: Backbone, settings: SimSiamSettings | None = None) -> None:
        settings = settings or SimSiamSettings()
        super().__init__(backbone, settings)
        size, norm = settings.projection, settings.norm
        self.projector = ProjectionHead(backbone.global_channels, size, size, size, norm=norm, normalise_last=True)
        self.predictor = ProjectionHead(size, settings.bottleneck, size, norm=norm)

    def loss(self, embeddings: Tensor, views: Tensor, keys: Tensor) -> Tensor:
        """Return the negative cosine of each view's prediction and the other's embedding, averaged."""
        return symmetric_negative_cosine(in_float32(self.predictor, embeddings), embeddings)
