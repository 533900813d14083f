"""Geometric visual similarity learning: match two subjects' volumes, and restore a damaged one (Fig. 4, Alg. 1)."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import fmean
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from gvsl.augment import (
    AppearanceSettings,
    SpatialSettings,
    change_appearance,
    draw_appearance,
    draw_spatial,
)
from gvsl.backbones import UNet3D
from gvsl.geometry import Fusion, folded_share, inside, warp
from gvsl.heads import Matching, RestorationHead, ZMatchingHead
from gvsl.losses import local_ncc_loss, smoothness_loss
from gvsl.methods.method import LOSS, Method
from gvsl.methods.restoration import RESTORATION_METRICS
from gvsl.records.metrics import LoggedMetric
from gvsl.types import Features, PairBatch


@dataclass(frozen=True)
class GVSLSettings:
    """The pretext of GVSL; an ablation of Table 1 is a part switched off."""

    matching: bool = True
    """Learn to match (without it: Table 1, "w/o Z-Matching")."""
    affine: bool = True
    """Match globally before locally (without it: Table 1, "w/o Affine head")."""
    affine_gradient: bool = True
    """Train the affine head; the published code cuts it off from the loss."""
    restoration: bool = True
    """Learn to restore (without it: Table 1, "w/o Fundament")."""
    ncc_weight: float = 1.0
    """Weight of the NCC loss (Alg. 1: 1)."""
    smoothness_weight: float = 1.0
    """Weight of the smoothness loss (Alg. 1: 1)."""
    restoration_weight: float = 1.0
    """Weight of the restoration's mean squared error (Alg. 1: 1)."""
    fusion: Fusion = "compose"
    """How the affine map and the local field are fused: exactly ("compose") or as Eq. 12 has it ("paper")."""
    smooth_on: Literal["dvf", "local"] = "dvf"
    """The field that is kept smooth: the fused one (Eq. 2) or the local one (published code)."""
    window: int = 9
    """Side of the NCC's window in voxels."""
    variance_floor: float = 1e-6
    """Added to the product of two windows' variances; the published code's is 2e-11."""
    mask_outside: bool = True
    """Leave windows out of the NCC that are centred on what spatial augmentation or the field brought in from
    outside a volume, where there is nothing to match."""
    appearance: AppearanceSettings = field(default_factory=AppearanceSettings)
    """The transformation set T (Appendix C)."""
    spatial: SpatialSettings = field(default_factory=SpatialSettings)
    """Spatial augmentation, one draw shared by the two volumes of a pair."""


class GVSL(Method):
    """Match two subjects' volumes, and restore a damaged one."""

    logs = (
        LOSS,
        LoggedMetric("ncc", "NCC loss", "lower"),
        LoggedMetric("ncc_affine", "NCC loss of the affine part", "lower"),
        LoggedMetric("ncc_identity", "NCC loss without warping"),
        LoggedMetric("smoothness", "Smoothness loss", "lower"),
        LoggedMetric("folded", "Fraction of voxels with a non-positive Jacobian", "lower"),
        *RESTORATION_METRICS,
    )

    def __init__(self, backbone: UNet3D, settings: GVSLSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or GVSLSettings()
        if not settings.matching and not settings.restoration:
            raise ValueError("GVSL with neither matching nor restoration has nothing to learn")
        self.backbone = backbone
        self.matching = (
            ZMatchingHead(
                backbone.width,
                affine=settings.affine,
                affine_gradient=settings.affine_gradient,
                fusion=settings.fusion,
            )
            if settings.matching
            else None
        )
        self.restoration = RestorationHead(backbone.width, backbone.in_channels) if settings.restoration else None

    def parts(self) -> dict[str, nn.Module]:
        """The parts whose gradients are watched, by name."""
        parts: dict[str, nn.Module | None] = {"backbone": self.backbone, "restoration": self.restoration}
        if self.matching is not None:
            affine = self.matching.affine if self.settings.affine_gradient else None
            parts |= {"affine": affine, "deformable": self.matching.deformable}
        return {name: part for name, part in parts.items() if part is not None}

    def training_step(self, batch: PairBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """One step of Algorithm 1.

        The spatial draw comes before the appearance transforms rather than after, which saves a warp and leaves the
        in-painted noise sharp.

        Args:
            batch: pairs of volumes of different subjects, in [0, 1].
            generator: where the augmentation's randomness comes from, on the batch's device.

        Returns:
            scalars: `loss` to minimise, and what there is to log.
        """
        moving, fixed, seen = self._augment_in_space(batch, generator)
        draw = draw_appearance(len(moving), _shape(moving), self.settings.appearance, generator)
        damaged = change_appearance(moving, draw)

        if self.matching is None:
            return self._restoration_terms(self.backbone(damaged), moving)
        features = self.backbone(torch.cat([damaged, fixed]))
        moving_features, fixed_features = _halves(features)
        terms = self._matching_terms(self.matching(moving_features, fixed_features), moving, fixed, seen)
        restoration = self._restoration_terms(moving_features, moving)
        return terms | restoration | {"loss": terms["loss"] + restoration.get("loss", 0)}

    def match(self, moving: Tensor, fixed: Tensor) -> Matching:
        """Match two batches of volumes as they are: (B, C, D, H, W) each, in [0, 1].

        Raises:
            ValueError: the method was trained without matching.
        """
        if self.matching is None:
            raise ValueError("this method was built without matching")
        return self.matching(*_halves(self.backbone(torch.cat([moving, fixed]))))

    def ncc(self, moving: Tensor, fixed: Tensor, dvf: Tensor | None, seen: Tensor | None = None) -> Tensor:
        """The NCC loss, by the method's settings, of a moving volume warped onto a fixed one.

        Args:
            moving: (B, C, D, H, W).
            fixed: (B, C, D, H, W).
            dvf: (B, 3, D, H, W) in voxels; the moving volume stays as it is without it.
            seen: (B, 1, D, H, W), the voxels whose windows count; all if it is not given.
        """
        if dvf is not None:
            moving = warp(moving, dvf)
            if self.settings.mask_outside:
                looks_inside = inside(dvf.detach())
                seen = looks_inside if seen is None else seen & looks_inside
        mask = seen if self.settings.mask_outside else None
        return local_ncc_loss(fixed, moving, window=self.settings.window, floor=self.settings.variance_floor, mask=mask)

    def restore(self, damaged: Tensor) -> Tensor:
        """Restore a batch of damaged volumes: (B, C, D, H, W).

        Raises:
            ValueError: the method was trained without restoration.
        """
        if self.restoration is None:
            raise ValueError("this method was built without restoration")
        restored: Tensor = self.restoration(self.backbone(damaged).local)
        return restored

    @torch.no_grad()
    def held_out(self, volumes: Iterable[Tensor], generator: torch.Generator) -> dict[str, float]:
        """The restoration's error beside that of the damaged volume; `gvsl.evaluation` measures the matching."""
        if self.restoration is None:
            return {}
        errors = []
        for volume in volumes:
            image = volume[None]
            damaged = change_appearance(image, draw_appearance(1, _shape(image), self.settings.appearance, generator))
            errors.append([float(functional.mse_loss(other, image)) for other in (self.restore(damaged), damaged)])
        restored, untouched = (fmean(column) for column in zip(*errors, strict=True))
        return {"restoration": restored, "restoration_identity": untouched}

    def _augment_in_space(self, batch: PairBatch, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor | None]:
        """Both volumes by one spatial draw, and where they still show what was scanned.

        Beyond the scan the border is repeated: black corners that both volumes share would match by themselves.
        """
        if self.settings.spatial.rate == 0:
            return batch.moving, batch.fixed, None
        dvf = draw_spatial(len(batch.moving), _shape(batch.moving), self.settings.spatial, generator)
        channels = batch.moving.shape[1]
        both = warp(torch.cat([batch.moving, batch.fixed], dim=1), dvf, padding="border")
        return both[:, :channels], both[:, channels:], inside(dvf)

    def _matching_terms(
        self, matching: Matching, moving: Tensor, fixed: Tensor, seen: Tensor | None
    ) -> dict[str, Tensor]:
        ncc = self.ncc(moving, fixed, matching.dvf, seen)
        smoothness = smoothness_loss(matching.dvf if self.settings.smooth_on == "dvf" else matching.local)
        with torch.no_grad():
            logged = {
                "ncc_affine": self.ncc(moving, fixed, matching.affine, seen),
                "ncc_identity": self.ncc(moving, fixed, None, seen),
                "folded": folded_share(matching.dvf),
            }
        loss = self.settings.ncc_weight * ncc + self.settings.smoothness_weight * smoothness
        return {"loss": loss, "ncc": ncc.detach(), "smoothness": smoothness.detach(), **logged}

    def _restoration_terms(self, features: Features, original: Tensor) -> dict[str, Tensor]:
        if self.restoration is None:
            return {}
        error = functional.mse_loss(self.restoration(features.local).float(), original.float())
        return {"loss": self.settings.restoration_weight * error, "restoration": error.detach()}


NO_MATCHING = GVSLSettings(matching=False)
NO_RESTORATION = GVSLSettings(restoration=False)
NO_AFFINE = GVSLSettings(affine=False)


def gvsl_no_matching(backbone: UNet3D, settings: GVSLSettings | None = NO_MATCHING) -> GVSL:
    """GVSL without its matching: restore a damaged volume (Table 1, "w/o Z-Matching")."""
    return GVSL(backbone, settings or NO_MATCHING)


def gvsl_no_restoration(backbone: UNet3D, settings: GVSLSettings | None = NO_RESTORATION) -> GVSL:
    """GVSL without its restoration: match two subjects' volumes (Table 1, "w/o Fundament")."""
    return GVSL(backbone, settings or NO_RESTORATION)


def gvsl_no_affine(backbone: UNet3D, settings: GVSLSettings | None = NO_AFFINE) -> GVSL:
    """GVSL without its affine head: match locally alone, and restore (Table 1, "w/o Affine head")."""
    return GVSL(backbone, settings or NO_AFFINE)


def _halves(features: Features) -> tuple[Features, Features]:
    """The features of the moving and of the fixed volumes, which went through the backbone as one batch."""
    (global_a, global_b), (local_a, local_b) = features.global_.chunk(2), features.local.chunk(2)
    return Features(global_a, local_a), Features(global_b, local_b)


def _shape(image: Tensor) -> tuple[int, int, int]:
    """(D, H, W) of a batch."""
    return image.shape[2], image.shape[3], image.shape[4]
