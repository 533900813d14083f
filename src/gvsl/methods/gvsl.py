"""Geometric visual similarity learning (GVSL) and its ablations (Fig. 4, Alg. 1)."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from gvsl.augment import change_appearance, draw_appearance, draw_spatial
from gvsl.augment.draw import share_of
from gvsl.backbones import Backbone, coarsest, levels_for
from gvsl.cases import IGNORED
from gvsl.errors import UserError
from gvsl.geometry import gaussian_smooth, inside, nonpositive_jacobian_fraction, spatial_shape, warp
from gvsl.heads import Matching, RestorationHead, ZMatchingHead
from gvsl.io import format_sizes
from gvsl.losses import local_ncc_loss, smoothness_loss, soft_dice_loss
from gvsl.methods.method import LOSS, Method
from gvsl.methods.restoration import RESTORATION_METRICS, check_boxes, erase_boxes, restoration_errors
from gvsl.records.matching import FIELD_METRICS
from gvsl.records.metrics import LoggedMetric
from gvsl.refinement import RefinementSettings
from gvsl.refinement import refine as refine_dvf
from gvsl.settings.methods import NO_AFFINE, NO_MATCHING, NO_RESTORATION
from gvsl.settings.methods import GVSLSettings as GVSLSettings
from gvsl.settings.propagation import Start
from gvsl.types import Features, LabelledPair, PairBatch

Labelled = tuple[Tensor, Tensor, Tensor | None]
"""A moving and a fixed volume, labels following the image as channels, and the mask of voxels inside both scans."""


class GVSL(Method):
    """Match two subjects' volumes, and restore a damaged one.

    Reference: Y. He, G. Yang, R. Ge, Y. Chen, J.-L. Coatrieux, B. Wang and S. Li. Geometric Visual Similarity Learning
    in 3D Medical Image Self-supervised Pre-training. CVPR 2023. https://arxiv.org/abs/2303.00874

    Raises:
        ValueError: both matching and restoration are switched off, or the boxes can't be drawn.

    >>> from gvsl.backbones import UNet3D
    >>> method = GVSL(UNet3D(width=8))
    >>> batch = PairBatch(torch.rand(1, 1, 16, 16, 16), torch.rand(1, 1, 16, 16, 16), ["a"], ["b"])
    >>> list(method.training_step(batch, torch.Generator().manual_seed(0)))
    ['loss', 'ncc', 'smoothness', 'ncc_affine', 'ncc_identity', 'folded', 'restoration']
    """

    logs = (
        LOSS,
        *FIELD_METRICS,
        LoggedMetric("smoothness", "Smoothness loss", "lower"),
        *RESTORATION_METRICS,
        LoggedMetric("carried_labels", "Dice loss of carried labels", "lower"),
    )
    compilable = True

    def __init__(self, backbone: Backbone, settings: GVSLSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or GVSLSettings()
        if settings.labels and not settings.matching:
            raise ValueError("labels are for the matching, which is switched off: leave out pretext.labels")
        if settings.labels and not settings.labels_weight > 0:
            raise ValueError(f"labels_weight is {settings.labels_weight}: give more than 0, or no labels")
        self.labelled = settings.labels
        self.by_volume = not settings.labels  # of which each process has a pair of its own
        if not settings.matching and not settings.restoration:
            raise ValueError("GVSL without matching and restoration has nothing to learn: switch one of them on")
        check_boxes(settings.boxes.smallest, settings.boxes.largest, settings.boxes.most_boxes)
        self.backbone = backbone
        self.matching: ZMatchingHead | None = None
        self.restoration: RestorationHead | None = None
        if settings.matching:
            self.matching = ZMatchingHead(
                backbone.global_channels,
                backbone.local_channels,
                affine=settings.affine_head if settings.affine else None,
                deformable=settings.deformable_head,
                affine_gradient=settings.affine_gradient,
                fusion=settings.fusion,
            )
        if settings.restoration:
            self.restoration = RestorationHead(backbone.local_channels, backbone.in_channels)

    def parts(self) -> dict[str, nn.Module]:
        """Return the trained parts: the backbone and those heads that are switched on."""
        parts: dict[str, nn.Module | None] = {"backbone": self.backbone, "restoration": self.restoration}
        if self.matching is not None:
            affine = self.matching.affine if self.settings.affine_gradient else None
            parts |= {"affine": affine, "deformable": self.matching.deformable}
        return {name: part for name, part in parts.items() if part is not None}

    def check(self, crop: tuple[int, int, int], volumes: int) -> None:
        """Check that the key points of the affine head have more than one voxel along each axis to lie in.

        Raises:
            ValueError: the crop leaves a single voxel at the bottleneck.
        """
        levels, keypoints = self.backbone.levels, self.settings.affine and self.settings.affine_head == "keypoints"
        if self.matching is None or not keypoints or coarsest(crop, levels) > 1:
            return
        fewer = levels_for(crop)
        fix = f"--backbone.levels {fewer}" if coarsest(crop, fewer) > 1 else "a larger --data.crop"
        raise ValueError(
            f"a crop of {format_sizes(crop)} leaves one voxel along an axis at the last of {levels} levels, "
            f"where no key point can be located: give {fix}"
        )

    def training_step(self, batch: PairBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the loss and the metrics of one step of Algorithm 1.

        Spatial augmentation precedes the damage: this saves a warp and keeps the in-painted noise sharp.
        """
        moving, fixed, seen = self._augment_in_space(batch, generator)
        if self.settings.symmetric:
            moving, fixed = torch.cat([moving, fixed]), torch.cat([fixed, moving])
            seen = None if seen is None else torch.cat(seen.chunk(2)[::-1])
        elif seen is not None:
            seen = seen.chunk(2)[1]
        damaged, _ = self.damage(moving, generator)
        labelled = None if batch.labelled is None else self._augment_labelled(batch.labelled, generator)
        terms: dict[str, Tensor] = self(damaged, moving, fixed, seen, labelled)
        return terms

    def forward(
        self, damaged: Tensor, moving: Tensor, fixed: Tensor, seen: Tensor | None, labelled: Labelled | None
    ) -> dict[str, Tensor]:
        """Return the loss and the metrics of volumes that are augmented and damaged: (B, C, D, H, W) each."""
        if self.matching is None:
            return self._restoration_terms(self.backbone(damaged), moving)
        if self.settings.symmetric:
            moving_features = self.backbone(damaged)
            fixed_features = _swapped(moving_features)
        else:
            moving_features, fixed_features = _halves(self.backbone(torch.cat([damaged, fixed])))
        terms = self._matching_terms(self.matching(moving_features, fixed_features), moving, fixed, seen)
        restoration = self._restoration_terms(moving_features, moving)
        labels = {} if labelled is None else self._label_terms(*labelled)
        loss = terms["loss"] + restoration.get("loss", 0) + labels.get("loss", 0)
        return terms | restoration | labels | {"loss": loss}

    def damage(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return damaged volumes and the targets of their restoration, (B, C, D, H, W) each."""
        if self.settings.damage == "boxes":
            return erase_boxes(images, self.settings.boxes, generator), images
        draw = draw_appearance(len(images), spatial_shape(images), self.settings.appearance, generator, images.shape[1])
        return change_appearance(images, draw), images

    def check_start(self, start: Start, name: str = "this method", option: str = "start") -> None:
        """Check that a refinement may start from what is named, for a message with a name and an option.

        Raises:
            UserError: it is the affine part, and there is no affine head.
        """
        if start == "affine" and self.matching is not None and self.matching.affine is None:
            raise UserError(f"{name} has no affine head: give {option} field or none")

    def match(self, moving: Tensor, fixed: Tensor, refine: int = 0, start: Start = "affine") -> Matching:
        """Match two batches of volumes without augmentation: (B, C, D, H, W) each, in [0, 1].

        Args:
            moving: the volumes to warp.
            fixed: the volumes whose grid they are warped onto.
            refine: steps of `gvsl.refinement.refine` on the pairs themselves.
            start: what is refined: the whole field, its affine part, or nothing, which shows what the network is worth.

        Raises:
            UserError: the affine part is refined, and there is no affine head.
            ValueError: the method has no matching head.
        """
        if self.matching is None:
            raise ValueError("this method was built without matching")
        matching = self.matching(*_halves(self.backbone(torch.cat([moving, fixed]))))
        if not refine:
            return matching
        self.check_start(start)
        starts = {"field": matching.dvf, "affine": matching.affine, "none": torch.zeros_like(matching.dvf)}
        dvf = refine_dvf(starts[start], moving, fixed, RefinementSettings(steps=refine))
        return matching._replace(dvf=dvf)

    def ncc(self, moving: Tensor, fixed: Tensor, dvf: Tensor | None, seen: Tensor | None = None) -> Tensor:
        """Return the NCC loss of a moving volume warped onto a fixed one, both smoothed, with the method's settings.

        Args:
            moving: (B, C, D, H, W).
            fixed: (B, C, D, H, W).
            dvf: (B, 3, D, H, W), in voxels; None leaves the moving volume unwarped.
            seen: (B, 1, D, H, W), the voxels whose windows count; by default all.
        """
        return self._ncc_to(gaussian_smooth(fixed, self.settings.ncc_sigma), moving, dvf, seen)

    def _ncc_to(self, smoothed: Tensor, moving: Tensor, dvf: Tensor | None, seen: Tensor | None) -> Tensor:
        """Return the loss to a fixed volume that is smoothed already; a step compares it with three fields."""
        if dvf is not None:
            moving = warp(moving, dvf)
            if self.settings.mask_outside:
                sampled = inside(dvf.detach())
                seen = sampled if seen is None else seen & sampled
        mask = seen if self.settings.mask_outside else None
        moving = gaussian_smooth(moving, self.settings.ncc_sigma)
        return local_ncc_loss(
            smoothed, moving, window=self.settings.window, eps=self.settings.variance_floor, mask=mask
        )

    def restore(self, damaged: Tensor) -> Tensor:
        """Restore a batch of damaged volumes: (B, C, D, H, W).

        Raises:
            ValueError: the method has no restoration head.
        """
        if self.restoration is None:
            raise ValueError("this method was built without restoration")
        restored: Tensor = self.restoration(self.backbone(damaged).local)
        return restored

    @torch.no_grad()
    def held_out(self, volumes: Iterable[Tensor], generator: torch.Generator) -> dict[str, float]:
        """Return the errors of restored and of damaged volumes; `gvsl.training.evaluate` measures the matching."""
        if self.restoration is None:
            return {}
        return restoration_errors(self.restore, (self.damage(volume[None], generator) for volume in volumes))

    def _augment_in_space(self, batch: PairBatch, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor | None]:
        """Transform both volumes; return them, and the mask of voxels inside the scans, moving before fixed.

        Outside the scan the border is repeated, since black corners shared by both volumes would match trivially.
        """
        if self.settings.spatial.rate == 0:
            return batch.moving, batch.fixed, None
        pairs, shape = len(batch.moving), spatial_shape(batch.moving)
        draws = 2 * pairs if self.settings.independent_poses else pairs
        dvf = draw_spatial(draws, shape, self.settings.spatial, generator)
        dvf = dvf if self.settings.independent_poses else dvf.repeat(2, 1, 1, 1, 1)
        moving, fixed = warp(torch.cat([batch.moving, batch.fixed]), dvf, padding="border").chunk(2)
        return moving, fixed, inside(dvf)

    def _matching_terms(
        self, matching: Matching, moving: Tensor, fixed: Tensor, seen: Tensor | None
    ) -> dict[str, Tensor]:
        smoothed = gaussian_smooth(fixed, self.settings.ncc_sigma)
        ncc = self._ncc_to(smoothed, moving, matching.dvf, seen)
        smoothness = smoothness_loss(matching.dvf if self.settings.smooth_on == "dvf" else matching.local)
        with torch.set_grad_enabled(self.settings.affine_ncc_weight > 0):
            affine = self._ncc_to(smoothed, moving, matching.affine, seen)
        with torch.no_grad():
            logged = {
                "ncc_affine": affine.detach(),
                "ncc_identity": self._ncc_to(smoothed, moving, None, seen),
                "folded": nonpositive_jacobian_fraction(matching.dvf),
            }
        loss = self.settings.ncc_weight * ncc + self.settings.smoothness_weight * smoothness
        if affine.requires_grad:
            loss = loss + self.settings.affine_ncc_weight * affine
        return {"loss": loss, "ncc": ncc.detach(), "smoothness": smoothness.detach(), **logged}

    def _restoration_terms(self, features: Features, original: Tensor) -> dict[str, Tensor]:
        if self.restoration is None:
            return {}
        error = functional.mse_loss(self.restoration(features.local).float(), original.float())
        return {"loss": self.settings.restoration_weight * error, "restoration": error.detach()}

    def _augment_labelled(self, pair: LabelledPair, generator: torch.Generator) -> Labelled:
        """Transform a labelled pair; return both, labels following the image as channels, which thus share its pose."""
        generator = share_of(generator, len(pair.moving))
        whole = PairBatch(
            torch.cat([pair.moving, _one_hot(pair.moving_classes, pair.class_count)], dim=1),
            torch.cat([pair.fixed, _one_hot(pair.fixed_classes, pair.class_count)], dim=1),
            *([""], [""]),
        )
        return self._augment_in_space(whole, generator)

    def _label_terms(self, moving: Tensor, fixed: Tensor, seen: Tensor | None) -> dict[str, Tensor]:
        """Return the Dice loss of the moving volume's labels, carried by the field, with the fixed volume's.

        Source: G. Balakrishnan, A. Zhao, M. R. Sabuncu, J. Guttag and A. V. Dalca. VoxelMorph: A Learning Framework for
        Deformable Medical Image Registration. IEEE TMI 38(8), 2019 (Eq. 9, auxiliary data).
        """
        assert self.matching is not None
        channels = self.backbone.in_channels
        images = torch.cat([moving[:, :channels], fixed[:, :channels]])
        matching = self.matching(*_halves(self.backbone(images)))
        carried, target = warp(moving[:, channels:], matching.dvf, padding="border"), fixed[:, channels:]
        target = target * (carried.detach().sum(dim=1, keepdim=True) > 0.5)
        if seen is not None:
            target = target * seen.chunk(2)[1]
        error = soft_dice_loss(carried.float(), target.float())
        return {"loss": self.settings.labels_weight * error, "carried_labels": error.detach()}


def gvsl_no_matching(backbone: Backbone, settings: GVSLSettings | None = NO_MATCHING) -> GVSL:
    """GVSL without its matching: restore a damaged volume (Table 1, "w/o Z-Matching").

    Reference: He et al. (2023), https://arxiv.org/abs/2303.00874

    >>> from gvsl.backbones import UNet3D
    >>> list(gvsl_no_matching(UNet3D(width=8)).parts())
    ['backbone', 'restoration']
    """
    return GVSL(backbone, settings or NO_MATCHING)


def gvsl_no_restoration(backbone: Backbone, settings: GVSLSettings | None = NO_RESTORATION) -> GVSL:
    """GVSL without its restoration: match two subjects' volumes (Table 1, "w/o Fundament").

    Reference: He et al. (2023), https://arxiv.org/abs/2303.00874

    >>> from gvsl.backbones import UNet3D
    >>> list(gvsl_no_restoration(UNet3D(width=8)).parts())
    ['backbone', 'affine', 'deformable']
    """
    return GVSL(backbone, settings or NO_RESTORATION)


def gvsl_no_affine(backbone: Backbone, settings: GVSLSettings | None = NO_AFFINE) -> GVSL:
    """GVSL without its affine head: match only locally, and restore (Table 1, "w/o Affine head").

    Reference: He et al. (2023), https://arxiv.org/abs/2303.00874

    >>> from gvsl.backbones import UNet3D
    >>> list(gvsl_no_affine(UNet3D(width=8)).parts())
    ['backbone', 'restoration', 'deformable']
    """
    return GVSL(backbone, settings or NO_AFFINE)


def _one_hot(classes: Tensor, count: int) -> Tensor:
    """Return class indices as channels, (1, count, D, H, W); ignored voxels are 0 in all."""
    shares = functional.one_hot(classes[:, 0] - IGNORED, count - IGNORED)[..., -IGNORED:]
    return shares.movedim(-1, 1).float()


def _swapped(features: Features) -> Features:
    """Exchange the first and the second half of a batch."""
    return Features(*(torch.cat(part.chunk(2)[::-1]) for part in features))


def _halves(features: Features) -> tuple[Features, Features]:
    """Split the features of a batch into those of the moving and of the fixed volumes."""
    (global_a, global_b), (local_a, local_b) = features.global_.chunk(2), features.local.chunk(2)
    return Features(global_a, local_a), Features(global_b, local_b)
