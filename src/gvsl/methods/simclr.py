"""SimCLR: find each view's positive among the views of all volumes."""

from torch import Tensor

from gvsl.backbones import Backbone
from gvsl.heads import ProjectionHead
from gvsl.losses import nt_xent
from gvsl.methods.distributed import all_gather, local_offset
from gvsl.methods.two_views import TwoViewMethod
from gvsl.settings.methods import SimCLRSettings as SimCLRSettings


class SimCLR(TwoViewMethod):
    """Find each view's positive among the views of all volumes, of all processes.

    Reference: T. Chen, S. Kornblith, M. Norouzi and G. Hinton. A Simple Framework for Contrastive Learning of Visual
    Representations. ICML 2020. https://arxiv.org/abs/2002.05709

    Raises:
        ValueError: the temperature is not positive, or the views can't be drawn.

    >>> from gvsl.backbones import UNet3D
    >>> import torch
    >>> SimCLR(UNet3D(width=8)).embed(torch.rand(4, 1, 16, 16, 16)).shape
    torch.Size([4, 128])
    """

    heads = ("projector",)

    def __init__(self, backbone: Backbone, settings: SimCLRSettings | None = None) -> None:
        settings = settings or SimCLRSettings()
        super().__init__(backbone, settings)
        if not settings.temperature > 0:
            raise ValueError(f"temperature is {settings.temperature:g}: give more than 0, such as 0.1")
        self.projector = ProjectionHead(
            backbone.global_channels, settings.hidden, settings.projection, norm=settings.norm
        )

    def loss(self, embeddings: Tensor, views: Tensor, keys: Tensor) -> Tensor:
        """Return NT-Xent over the views of all volumes of all processes."""
        first, second = embeddings.chunk(2)
        gathered = all_gather(first), all_gather(second), all_gather(keys)
        offset = local_offset(len(first))
        return nt_xent(first, second, keys, self.settings.temperature, gathered=gathered, offset=offset)
