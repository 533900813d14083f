"""Segmentation: a label for every voxel, from the backbone's local features (Appendix E.3)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from gvsl.backbones import Backbone
from gvsl.cases import IGNORED
from gvsl.datasets.tasks import check_labels
from gvsl.inferers.sliding_window import predict_classes
from gvsl.inferers.windows import windows
from gvsl.io import Box
from gvsl.losses import soft_cross_entropy, soft_dice_loss
from gvsl.progress import progress
from gvsl.settings.transfer import TransferSettings
from gvsl.store import Store
from gvsl.transfer.augmentation import augment
from gvsl.transfer.carrying import TABLE_NAME as CARRIED_NAME
from gvsl.transfer.carrying import CarriedPool
from gvsl.transfer.cases import LabelledCases, draw_labelled
from gvsl.transfer.feature_clusters import CLUSTERS_NAME, find_clusters, write_clusters
from gvsl.transfer.features import FrozenFeatures, Represent
from gvsl.transfer.networks import AdaptedNetwork, SegmentationNetwork
from gvsl.transfer.preflight import check_structures
from gvsl.transfer.scores import Prediction, mean_dice, score_cases
from gvsl.transfer.task import Example, Outcome
from gvsl.transfer.weights import segmenter_config

GIGABYTE = 1e9


def segmentation_loss(settings: TransferSettings) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the loss of logits (1, classes, D, H, W) and class indices (1, 1, D, H, W), or weighted votes as logits.

    It is 1 - soft Dice, averaged over the structures without the background, or that plus cross-entropy, of the voxels
    whose class is not `IGNORED`; with votes, see `gvsl.losses.soft_targets`.
    """
    from monai.losses import DiceCELoss, DiceLoss  # takes seconds to import, and not every command trains

    # With the background included, the soft Dice first decreases by predicting nothing else: at 1e-4 a head on random
    # features of hippocampus MR scored 0 after 4,000 steps, and 0.25 without; from 1e-3 on both end alike.
    kind = DiceLoss if settings.loss == "dice" else DiceCELoss
    loss = kind(softmax=True, to_onehot_y=True, include_background=False)

    def of_known(logits: Tensor, target: Tensor) -> Tensor:
        if target.is_floating_point():
            dice = soft_dice_loss(logits.softmax(dim=1), target)
            return dice if settings.loss == "dice" else dice + soft_cross_entropy(logits, target)
        known = (target != IGNORED).flatten()
        if not known.any():
            return 0.0 * logits.sum()  # the example was moved out of sight
        if not known.all():
            logits, target = logits.flatten(2)[..., known], target.flatten(2)[..., known]
        found: Tensor = loss(logits, target)
        return found

    return of_known


class Segmentation:
    """Segmentation of a store's structures, as a `gvsl.transfer.task.Task`.

    Its test writes pictures, volumes and, for a frozen backbone, clusters.json. If no test case has a label map, as in
    challenges that withhold theirs, nothing is tested; without a case in val, nothing is validated.
    """

    score_name = "dice"

    def __init__(self, store: Store, settings: TransferSettings, task: str) -> None:
        """Draw the cases.

        Raises:
            UserError: a label map is missing, or a label is not the task's, or one of the task's is missing.
        """
        self.store, self.settings = store, settings
        self.val, test = store.members("val"), store.members("test")
        self.test_cases = test if any(store.has_label(case) for case in test) else []
        self.train = draw_labelled(store.split("train"), settings.labels, settings.seed)
        check_labels(task, store.label_names, store.place)
        self.labels = check_structures(store, self.train, [*self.val, *self.test_cases])
        self.loss = segmentation_loss(settings)
        self.carried: CarriedPool | None = None
        """Volumes with carried labels to train on besides."""

    def build(self, backbone: Backbone) -> SegmentationNetwork:
        """Add a convolution to the backbone."""
        chosen = self.settings
        frozen = chosen.mode == "linear"
        return SegmentationNetwork(
            backbone, 1 + len(self.labels), kernel=chosen.kernel, frozen=frozen, precision=chosen.precision
        )

    def start(self, network: AdaptedNetwork) -> None:
        """Keep the network, and compute the features that fit the cache, so that the rate of steps is steady."""
        assert isinstance(network, SegmentationNetwork)
        self.network = network
        carried = None if self.carried is None else self.carried.labels
        self.cases = LabelledCases(self.store, next(network.parameters()).device, self.labels, carried)
        self.represent = self._represent(self.settings.cache_gigabytes * GIGABYTE)
        if isinstance(self.represent, FrozenFeatures):
            wanted = self.represent.fitting(self._windows([*self.train, *self.val]))
            with progress(len(wanted), "features", unit="windows") as advance:
                for case, box in wanted:
                    self.represent(case, box)
                    advance()

    def examples(self) -> list[Example]:
        """Return every window of the training cases."""
        return self._windows(self.train)

    def drawn_from(self) -> list[str]:
        """Return the training cases, and the volumes with carried labels."""
        if self.carried is None:
            return self.train
        return self.carried.drawn_from(self.train, self.settings.carrying.real_share)

    def example(self, case: str, box: Box, number: int) -> tuple[Tensor, Tensor]:
        """Return local features (1, width, D, H, W) and the target of `segmentation_loss`, augmented together."""
        if self.network.frozen:
            return self.represent(case, box), self.cases.target(case, box)
        image, target = self.cases.training_example(case, box, self.settings.seed, number)
        image, moved = augment(image, target, self.settings.augment, self.settings.seed, number)
        assert moved is not None  # there were classes to move
        return self.network.features(image), moved

    def validate(self) -> float:
        """Return the DSC, a mean over structures and validation cases."""
        return mean_dice(self.cases, self.val, self._predict)

    def test(self, folder: Path) -> Outcome:
        """Return DSC and HD95 of each test case, and how the features of a frozen backbone cluster."""
        clusters = None
        if self.network.frozen and self.settings.clusters.points and self.val:
            clusters = find_clusters(self.represent, self.cases, self.val, self.settings)
            write_clusters(folder / CLUSTERS_NAME, clusters)
        self.represent = self._represent(limit_bytes=0)  # each window is seen once
        tested = score_cases(self.cases, self.test_cases, self._predict, folder)
        if clusters is not None:
            tested.other_metrics, tested.fields["clusters"] = clusters.metrics, CLUSTERS_NAME
        if self.carried is not None:
            self.carried.labels.write_table(folder / CARRIED_NAME)
        return tested

    def head_config(self) -> dict[str, Any]:
        """Return the labels and the kernel."""
        return segmenter_config(self.labels, self.settings.kernel)

    def _windows(self, ids: Sequence[str]) -> list[Example]:
        crop, overlap = self.settings.crop, self.settings.overlap
        return [(case, box) for case in ids for box in windows(self.store.cases[case].shape, crop, overlap)]

    def _represent(self, limit_bytes: float) -> Represent:
        """Return the map from a box to its features: cached for a frozen backbone, else with gradients."""
        network, cases = self.network, self.cases
        if network.frozen:
            return FrozenFeatures(network, cases.image, limit_bytes)
        return lambda case, box: network.features(cases.image(case, box))

    def _predict(self, case: str) -> Prediction:
        classes = predict_classes(
            lambda box: self.network.head(self.represent(case, box)),
            self.cases.shape(case),
            self.settings.crop,
            self.settings.overlap,
            self.cases.device,
        )
        return Prediction(classes)
