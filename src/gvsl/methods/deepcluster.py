"""DeepCluster: alternate between clustering the volumes by their features and classifying each volume's cluster."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gvsl.augment import change_appearance, draw_appearance
from gvsl.backbones import Backbone
from gvsl.geometry import spatial_shape
from gvsl.methods.distributed import broadcast_parameters, gather_objects
from gvsl.methods.embedding_metrics import EMBEDDING_METRICS, embedding_metrics
from gvsl.methods.encoder import EncoderMethod, all_ids, all_volumes, global_features, in_float32, move
from gvsl.methods.kmeans import cluster, mutual_information, whiten
from gvsl.methods.method import LOSS
from gvsl.records.metrics import LoggedMetric
from gvsl.settings.methods import DeepClusterSettings as DeepClusterSettings
from gvsl.types import PairBatch

MIN_CLUSTER_SIZE = 2
"""Minimum average number of volumes per cluster; below it, the classes would separate single volumes."""
TOP_SCALE = 0.01
"""Standard deviation of the top layer's initial weights (published code)."""


class DeepCluster(EncoderMethod):
    """Alternate between clustering the volumes by their features and classifying each volume's cluster.

    Reference: M. Caron, P. Bojanowski, A. Joulin and M. Douze. Deep Clustering for Unsupervised Learning of Visual
    Features. ECCV 2018. https://arxiv.org/abs/1807.05520

    Raises:
        ValueError: a setting is out of range.

    >>> from gvsl.backbones import UNet3D
    >>> method = DeepCluster(UNet3D(width=8), DeepClusterSettings(clusters=2, components=2))
    >>> volumes = [(name, torch.rand(1, 16, 16, 16)) for name in "abcd"]
    >>> logged = method.start_epoch(volumes, torch.Generator().manual_seed(0))
    >>> sorted(set(method.labels.values()))
    [0, 1]
    """

    heads = ("top",)
    logs = (
        LOSS,
        LoggedMetric("accuracy", "Cluster classification accuracy", "higher"),
        LoggedMetric("clusters_used", "Clusters in use", "higher"),
        LoggedMetric("cluster_smallest", "Smallest cluster (fraction of the volumes)", "higher"),
        LoggedMetric("cluster_largest", "Largest cluster (fraction of the volumes)", "lower"),
        LoggedMetric("nmi", "NMI with the previous assignment"),
        *EMBEDDING_METRICS,
    )

    def __init__(self, backbone: Backbone, settings: DeepClusterSettings | None = None) -> None:
        super().__init__(backbone)
        self.settings = settings = settings or DeepClusterSettings()
        self.min_epoch_steps = settings.least_epoch
        # No affine scale: the top layer, which is reinitialised each epoch, has one.
        self.norm = nn.BatchNorm1d(backbone.global_channels, affine=False)
        self.top = nn.Linear(backbone.global_channels, settings.clusters)
        self.labels: dict[str, int] = {}
        """Cluster of each volume, by its id."""

    def check(self, crop: tuple[int, int, int], volumes: int) -> None:
        """Check that the volumes can fill the clusters."""
        max_clusters = volumes // MIN_CLUSTER_SIZE
        if max_clusters < 2:
            raise ValueError(
                f"the split holds {volumes} volumes, too few to cluster: give {2 * MIN_CLUSTER_SIZE} or more"
            )
        if self.settings.clusters > max_clusters:
            raise ValueError(
                f"pretext.clusters is {self.settings.clusters}, but {volumes} volumes fill at most {max_clusters} "
                f"clusters of {MIN_CLUSTER_SIZE}: give --pretext.clusters {max_clusters} or less"
            )

    @torch.no_grad()
    def start_epoch(self, volumes: Iterable[tuple[str, Tensor]], generator: torch.Generator) -> dict[str, Tensor]:
        """Cluster the volumes of all processes, and reinitialise the top layer.

        Returns:
            `clusters_used`, `cluster_smallest` and `cluster_largest` (fractions of the volumes), `nmi` with the
            previous assignment, and the metrics of collapse of the features.
        """
        training = self.backbone.training
        self.backbone.eval()  # the pass trains nothing, so it must not enter the statistics of a batch norm
        own = [(case, global_features(self.backbone, image[None])[0].cpu().numpy()) for case, image in volumes]
        self.backbone.train(training)
        gathered = dict(sorted(item for shard in gather_objects(own) for item in shard))
        features = np.stack(list(gathered.values())).astype(np.float64)
        seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
        labels = gather_objects(cluster(whiten(features, self.settings.components), self.settings.clusters, seed))[0]
        previous = [self.labels.get(case, -1) for case in gathered]
        self.labels = dict(zip(gathered, labels.tolist(), strict=True))
        self.top.weight.normal_(0, TOP_SCALE, generator=generator)
        nn.init.zeros_(self.top.bias)
        broadcast_parameters(self.top)
        sizes = np.bincount(labels, minlength=self.settings.clusters)
        metrics = {
            "clusters_used": float(np.count_nonzero(sizes)),
            "cluster_smallest": sizes.min() / sizes.sum(),
            "cluster_largest": sizes.max() / sizes.sum(),
        }
        if -1 not in previous:
            metrics["nmi"] = mutual_information(np.array(previous), labels)
        logged = {name: torch.tensor(value, device=self.top.weight.device) for name, value in metrics.items()}
        return logged | embedding_metrics(torch.from_numpy(features).to(self.top.weight.device))

    def reinitialised(self) -> list[nn.Parameter]:
        """Return the top layer's parameters."""
        return list(self.top.parameters())

    def state_to_resume(self) -> dict[str, Any]:
        """Return the assignment."""
        return {"labels": self.labels}

    def resume(self, state: dict[str, Any]) -> None:
        """Restore the assignment."""
        self.labels = dict(state["labels"])

    def training_step(self, batch: PairBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the cross entropy of each volume's cluster, as if clusters were sampled uniformly.

        Each volume is weighted by the inverse of its cluster's size, which in expectation equals the paper's sampling.

        Raises:
            ValueError: a volume of the batch has no cluster.
        """
        images, ids = all_volumes(batch), all_ids(batch)
        unknown = [case for case in ids if case not in self.labels]
        if unknown:
            raise ValueError(f"{unknown[0]} has no cluster: start_epoch must see every volume first")
        # Counted in the host's memory, and copied without emptying a GPU's queue.
        assigned = torch.tensor([self.labels[case] for case in ids])
        sizes = torch.bincount(torch.tensor(list(self.labels.values())))
        weights = sizes.sum() / (sizes.count_nonzero() * sizes[assigned])
        assigned, weights = (part.to(images.device, non_blocking=True) for part in (assigned, weights))
        logits = self.classify(self._augment(images, generator))
        loss = (weights * functional.cross_entropy(logits, assigned, reduction="none")).mean()
        return {"loss": loss, "accuracy": (logits.detach().argmax(dim=1) == assigned).float().mean()}

    def classify(self, images: Tensor) -> Tensor:
        """Return the logits of the clusters: (B, C, D, H, W) to (B, clusters).

        Features are first normalised over the batch; otherwise their common part would dominate their differences.
        """
        return in_float32(self.top, in_float32(self.norm, global_features(self.backbone, images)))

    def _augment(self, images: Tensor, generator: torch.Generator) -> Tensor:
        images = move(images, self.settings.spatial, generator)
        draw = draw_appearance(len(images), spatial_shape(images), self.settings.appearance, generator, images.shape[1])
        return change_appearance(images, draw)

    @torch.no_grad()
    def held_out(self, volumes: Iterable[Tensor], generator: torch.Generator) -> dict[str, float]:
        """Return the metrics of collapse of the features; held-out volumes have no true clusters."""
        features = torch.cat([global_features(self.backbone, volume[None]) for volume in volumes])
        return {name: float(value) for name, value in embedding_metrics(features).items()}
