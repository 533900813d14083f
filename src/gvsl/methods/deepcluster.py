"""DeepCluster: cluster the volumes by their features, learn to tell the clusters, and cluster anew each epoch."""

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import normalized_mutual_info_score
from torch import Tensor, nn
from torch.nn import functional

from gvsl.augment import AppearanceSettings, SpatialSettings, change_appearance, draw_appearance, draw_spatial
from gvsl.backbones import UNet3D
from gvsl.geometry import warp
from gvsl.heads import effective_rank
from gvsl.methods.method import Method, both_volumes, pooled, train_encoder_only
from gvsl.types import PairBatch

FEWEST = 2
"""Volumes a cluster there must be at least, on average."""


@dataclass(frozen=True)
class DeepClusterSettings:
    """The pretext of DeepCluster."""

    clusters: int = 8
    """Clusters, far fewer than volumes (Caron et al. 2018: 10,000 for 1.3 million images)."""
    components: int = 256
    """Principal components that are kept, at most; there are never more than volumes less one (256)."""
    reassign_every: int | None = None
    """Steps between two clusterings; without it an epoch, as many steps as show each volume once."""
    spatial: SpatialSettings = field(default_factory=SpatialSettings)
    """Spatial augmentation of what is classified; clusters are made of the volumes as they are."""
    appearance: AppearanceSettings = field(default_factory=AppearanceSettings)
    """Appearance transforms of what is classified."""


class DeepCluster(Method):
    """Learn to tell clusters of volumes that k-means finds anew each epoch (Caron et al. 2018)."""

    learns = ("encoder",)
    judges_others = False

    def __init__(self, backbone: UNet3D, settings: DeepClusterSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or DeepClusterSettings()
        if settings.clusters < 2:
            raise ValueError(f"clusters is {settings.clusters}: give 2 or more")
        self.backbone = backbone
        train_encoder_only(backbone)
        self.classifier = nn.Linear(16 * backbone.width, settings.clusters)
        self.assignment: dict[str, int] = {}
        """Each volume's cluster, by its id."""

    def parts(self) -> dict[str, nn.Module]:
        """The parts whose gradients are watched, by name."""
        return {"backbone": self.backbone, "classifier": self.classifier}

    def check(self, volumes: int, crop: tuple[int, int, int]) -> None:
        """There must be more volumes than clusters.

        Raises:
            ValueError: there aren't.
        """
        clusters, most = self.settings.clusters, volumes // FEWEST
        if clusters > most:
            raise ValueError(f"pretext.clusters is {clusters}, but there are {volumes} volumes: give at most {most}")

    def reassigns(self, step: int, volumes: int, batch_size: int) -> bool:
        """At the first step and each epoch."""
        return step % (self.settings.reassign_every or math.ceil(volumes / (2 * batch_size))) == 0

    @torch.no_grad()
    def reassign(self, volumes: Iterable[tuple[list[str], Tensor]], generator: torch.Generator) -> dict[str, Tensor]:
        """Cluster the volumes by their features and start the classifier afresh.

        Returns:
            `clusters`, how many hold a volume; `largest_cluster`, its share; `nmi`, the normalised mutual
            information with the assignment before, 0 if there was none; `embedding_std` and `embedding_rank` as
            `gvsl.heads.EmbeddingMonitor` has them.
        """
        seen = [(ids, pooled(self.backbone, images)) for ids, images in volumes]
        ids = [name for names, _ in seen for name in names]
        features = torch.cat([each for _, each in seen])
        seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
        labels = cluster(features.double().cpu().numpy(), self.settings.clusters, self.settings.components, seed)
        before = [self.assignment[name] for name in ids if name in self.assignment]
        agreement = normalized_mutual_info_score(before, labels) if len(before) == len(ids) else 0.0
        self.assignment = dict(zip(ids, labels.tolist(), strict=True))
        bound = 1 / math.sqrt(self.classifier.in_features)
        fresh = torch.rand(self.classifier.weight.shape, generator=generator, device=generator.device)
        self.classifier.weight.copy_((2 * fresh - 1) * bound)
        self.classifier.bias.zero_()
        sizes = np.bincount(labels, minlength=self.settings.clusters)
        normalised = functional.normalize(features, dim=1)
        return {
            "clusters": torch.tensor(float((sizes > 0).sum())),
            "largest_cluster": torch.tensor(sizes.max() / len(ids)),
            "nmi": torch.tensor(float(agreement)),
            "embedding_std": normalised.std(dim=0).mean() * normalised.shape[1] ** 0.5,
            "embedding_rank": effective_rank(normalised),
        }

    def training_step(self, batch: PairBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Classify both volumes of each pair, augmented, into their clusters.

        Weights inverse to the clusters' sizes stand for drawing volumes uniformly over clusters.

        Raises:
            KeyError: a volume is in no cluster: `reassign` has not seen it.
        """
        volumes = both_volumes(batch)
        shape = (volumes.shape[2], volumes.shape[3], volumes.shape[4])
        dvf = draw_spatial(len(volumes), shape, self.settings.spatial, generator)
        appearance = draw_appearance(len(volumes), shape, self.settings.appearance, generator)
        views = change_appearance(warp(volumes, dvf, padding="border"), appearance)
        clusters = [self.assignment[name] for name in batch.moving_ids + batch.fixed_ids]
        truth = torch.tensor(clusters, device=views.device)
        logits = self.classifier(pooled(self.backbone, views)).float()
        sizes = torch.bincount(torch.tensor(list(self.assignment.values())), minlength=self.settings.clusters)
        weights = (sizes.sum() / ((sizes > 0).sum() * sizes.clamp(min=1))).to(logits)
        loss = (functional.cross_entropy(logits, truth, reduction="none") * weights[truth]).mean()
        right = (logits.argmax(dim=1) == truth).float().mean()
        return {"loss": loss, "cross_entropy": loss.detach(), "accuracy": right}

    def get_extra_state(self) -> dict[str, int]:
        """The assignment, which a resumed run goes on with."""
        return self.assignment

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Take up an assignment."""
        self.assignment = dict(state)


def cluster(features: NDArray[np.float64], clusters: int, components: int, seed: int) -> NDArray[np.int64]:
    """Cluster by k-means after PCA whitening and L2 normalisation (Caron et al. 2018, Section 3.2).

    Args:
        features: (N, C).
        clusters: k.
        components: principal components to keep, at most min(N - 1, C).
        seed: of k-means.

    Returns:
        (N,) numbers of clusters from 0; a cluster may stay empty where fewer points than k differ.
    """
    kept = min(components, len(features) - 1, features.shape[1])
    with np.errstate(invalid="ignore"):  # the share of a variance of 0, which nobody asks for
        white = PCA(kept, whiten=True, svd_solver="full").fit_transform(features)
    unit = white / np.maximum(np.linalg.norm(white, axis=1, keepdims=True), 1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct points than k: `clusters` is logged
        labels: NDArray[np.int64] = KMeans(clusters, n_init=5, random_state=seed).fit_predict(unit).astype(np.int64)
    return labels
