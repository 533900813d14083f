"""DeepCluster: cluster the volumes by their features, classify each volume's cluster, and begin again."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
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
from gvsl.geometry import warp
from gvsl.methods.collapse import EMBEDDING_METRICS, embedding_measures
from gvsl.methods.distributed import gather_objects, share_parameters
from gvsl.methods.encoder import all_ids, all_volumes, global_features, in_float32, leave_decoder
from gvsl.methods.kmeans import agreement, cluster, whiten
from gvsl.methods.method import LOSS, Method
from gvsl.records.metrics import LoggedMetric
from gvsl.types import PairBatch

LEAST_MEMBERS = 2
"""Volumes a cluster must have on average, or its classes tell single volumes apart."""
TOP_SCALE = 0.01
"""Standard deviation of a fresh top layer's weights (published code)."""


@dataclass(frozen=True)
class DeepClusterSettings:
    """The clusters, and how volumes are changed before they are classified."""

    clusters: int = 8
    """k (paper: 10,000 for 1.3 million images, 130 a cluster; a cohort of 130 volumes affords 16 a cluster)."""
    components: int = 16
    """Dimensions that features are whitened to (paper: 256); far fewer than volumes, or all are equally far apart."""
    least_epoch: int = 50
    """Least steps between two assignments, where the split is shown in fewer: a fresh top layer has to be learnt before
    it can teach (paper: an epoch, which is 5,000 steps of its data)."""
    spatial: SpatialSettings = field(default_factory=SpatialSettings)
    """Spatial augmentation of what is classified; what is clustered stays as it is."""
    appearance: AppearanceSettings = field(default_factory=AppearanceSettings)
    """The transformation set T (Appendix C), for what is classified."""


class DeepCluster(Method):
    """Cluster the volumes by their features, classify each volume's cluster, and begin again each epoch."""

    pretrained = ("encoder",)
    logs = (
        LOSS,
        LoggedMetric("accuracy", "Cluster classification accuracy", "higher"),
        LoggedMetric("clusters_used", "Clusters in use", "higher"),
        LoggedMetric("cluster_smallest", "Smallest cluster (fraction of the volumes)", "higher"),
        LoggedMetric("cluster_largest", "Largest cluster (fraction of the volumes)", "lower"),
        LoggedMetric("nmi", "NMI with the previous assignment"),
        *EMBEDDING_METRICS,
    )

    def __init__(self, backbone: UNet3D, settings: DeepClusterSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or DeepClusterSettings()
        if settings.clusters < 2:
            raise ValueError(f"clusters is {settings.clusters}: give 2 or more")
        if settings.components < 1:
            raise ValueError(f"components is {settings.components}: give 1 or more")
        if settings.least_epoch < 1:
            raise ValueError(f"least_epoch is {settings.least_epoch}: give 1 or more")
        self.least_epoch = settings.least_epoch
        self.backbone = backbone
        leave_decoder(backbone)
        # Without a scale of its own: the top layer, which is made anew each epoch, has one.
        self.norm = nn.BatchNorm1d(16 * backbone.width, affine=False)
        self.top = nn.Linear(16 * backbone.width, settings.clusters)
        self.labels: dict[str, int] = {}
        """Each volume's cluster, by its id."""

    def parts(self) -> dict[str, nn.Module]:
        """The parts that are trained."""
        return {"encoder": self.backbone.encoder, "top": self.top}

    def check(self, crop: tuple[int, int, int], volumes: int) -> None:
        """Refuse more clusters than the volumes can fill."""
        most = volumes // LEAST_MEMBERS
        if most < 2:
            raise ValueError(f"the split holds {volumes} volumes, too few to cluster: give {2 * LEAST_MEMBERS} or more")
        if self.settings.clusters > most:
            raise ValueError(
                f"pretext.clusters is {self.settings.clusters}, but {volumes} volumes fill at most {most} clusters "
                f"of {LEAST_MEMBERS}: give --pretext.clusters {most} or less"
            )

    @torch.no_grad()
    def start_epoch(self, volumes: Iterable[tuple[str, Tensor]], generator: torch.Generator) -> dict[str, Tensor]:
        """Cluster all volumes, of all processes, and begin a fresh top layer.

        Returns:
            `clusters_used`, `cluster_smallest` and `cluster_largest` (shares of the volumes), `nmi` with the last
            assignment, and the measures of collapse of the features.
        """
        own = [(case, global_features(self.backbone, image[None])[0].cpu().numpy()) for case, image in volumes]
        gathered = dict(sorted(item for share in gather_objects(own) for item in share))
        features = np.stack(list(gathered.values())).astype(np.float64)
        seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
        found = gather_objects(cluster(whiten(features, self.settings.components), self.settings.clusters, seed))[0]
        before = [self.labels.get(case, -1) for case in gathered]
        self.labels = dict(zip(gathered, found.tolist(), strict=True))
        self.top.weight.normal_(0, TOP_SCALE, generator=generator)
        nn.init.zeros_(self.top.bias)
        share_parameters(self.top)
        sizes = np.bincount(found, minlength=self.settings.clusters)
        figures = {
            "clusters_used": float(np.count_nonzero(sizes)),
            "cluster_smallest": sizes.min() / sizes.sum(),
            "cluster_largest": sizes.max() / sizes.sum(),
        }
        if -1 not in before:
            figures["nmi"] = agreement(np.array(before), found)
        logged = {name: torch.tensor(value, device=self.top.weight.device) for name, value in figures.items()}
        return logged | embedding_measures(torch.from_numpy(features).to(self.top.weight.device))

    def renewed(self) -> list[nn.Parameter]:
        """The top layer's parameters."""
        return list(self.top.parameters())

    def state_to_resume(self) -> dict[str, Any]:
        """The assignment."""
        return {"labels": self.labels}

    def resume(self, state: dict[str, Any]) -> None:
        """Take up the assignment."""
        self.labels = dict(state["labels"])

    def training_step(self, batch: PairBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """The cross entropy of each volume's cluster, as if clusters were drawn uniformly.

        Volumes come as the pairs have them; each counts by the inverse of its cluster's size, which in expectation is
        the paper's sampling.

        Raises:
            ValueError: there is no assignment yet, or it lacks a volume of the batch.
        """
        images, ids = all_volumes(batch), all_ids(batch)
        unknown = [case for case in ids if case not in self.labels]
        if unknown:
            raise ValueError(f"{unknown[0]} has no cluster: start_epoch must see every volume first")
        assigned = torch.tensor([self.labels[case] for case in ids], device=images.device)
        sizes = torch.bincount(torch.tensor(list(self.labels.values()), device=images.device))
        logits = self.classify(self._change(images, generator))
        weights = sizes.sum() / (sizes.count_nonzero() * sizes[assigned])
        loss = (weights * functional.cross_entropy(logits, assigned, reduction="none")).mean()
        return {"loss": loss, "accuracy": (logits.detach().argmax(dim=1) == assigned).float().mean()}

    def classify(self, images: Tensor) -> Tensor:
        """The logits of the clusters: (B, C, D, H, W) to (B, clusters).

        Features are normalised over the batch first: without, what all volumes have in common drowns what tells them
        apart.
        """
        return in_float32(self.top, in_float32(self.norm, global_features(self.backbone, images)))

    def _change(self, images: Tensor, generator: torch.Generator) -> Tensor:
        shape = (images.shape[2], images.shape[3], images.shape[4])
        if self.settings.spatial.rate > 0:
            dvf = draw_spatial(len(images), shape, self.settings.spatial, generator)
            images = warp(images, dvf, padding="border")
        return change_appearance(images, draw_appearance(len(images), shape, self.settings.appearance, generator))

    @torch.no_grad()
    def held_out(self, volumes: Iterable[Tensor], generator: torch.Generator) -> dict[str, float]:
        """The measures of collapse of the features; clusters of volumes it never saw have no truth."""
        features = torch.cat([global_features(self.backbone, volume[None]) for volume in volumes])
        return {name: float(value) for name, value in embedding_measures(features).items()}
