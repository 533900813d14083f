"""Pre-training methods. METHODS maps each name to the factory that puts the method on a backbone."""

from collections.abc import Callable

from gvsl.methods.byol import BYOL
from gvsl.methods.deepcluster import DeepCluster
from gvsl.methods.gvsl import GVSL, GVSLSettings, gvsl_no_affine, gvsl_no_matching, gvsl_no_restoration
from gvsl.methods.method import Method
from gvsl.methods.restoration import Denoising, Inpainting, ModelsGenesis
from gvsl.methods.rotation import Rotation
from gvsl.methods.simclr import SimCLR
from gvsl.methods.simsiam import SimSiam

METHODS: dict[str, Callable[..., Method]] = {
    "gvsl": GVSL,
    "gvsl-no-matching": gvsl_no_matching,
    "gvsl-no-restoration": gvsl_no_restoration,
    "gvsl-no-affine": gvsl_no_affine,
    "denoising": Denoising,
    "inpainting": Inpainting,
    "models-genesis": ModelsGenesis,
    "rotation": Rotation,
    "deepcluster": DeepCluster,
    "simsiam": SimSiam,
    "byol": BYOL,
    "simclr": SimCLR,
}
"""Name to factory(backbone, settings). The type of `settings` is in the factory's signature; the first line of its
docstring is the method's description in `gvsl methods`."""

__all__ = ["GVSL", "METHODS", "GVSLSettings", "Method"]
