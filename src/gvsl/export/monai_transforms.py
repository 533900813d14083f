"""The parts of an exported MONAI bundle that MONAI has no equal of: gvsl's preprocessing, its windows and the way back.

The bundle's configs name them; MONAI reads, runs the network, averages the windows and writes.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.inferers import Inferer, SlidingWindowInferer
from monai.transforms import MapTransform
from torch import Tensor

from gvsl.io import Volume, resample_onto
from gvsl.prediction.volumes import prepared
from gvsl.preprocessing import parse_preprocessing

SHAPE, AFFINE = "gvsl_source_shape", "gvsl_source_affine"
"""Keys of the metadata in which a prepared image carries the grid of its file."""


class Prepared(MapTransform):  # type: ignore[misc]  # MONAI comes without types
    """Prepare images as a run's store: (1, D, H, W) on their own grid to (1, d, h, w), float32 in [0, 1].

    Raises:
        UnusableFile: an image can't be preprocessed.
    """

    def __init__(self, keys: Sequence[Hashable] | Hashable, preprocessing: Mapping[str, Any]) -> None:
        """Take the names of the images and the preprocessing spec of export.json."""
        super().__init__(keys)
        self.spec = parse_preprocessing(preprocessing)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with its images prepared."""
        found = dict(data)
        for key in self.key_iterator(found):
            image = found[key]
            source = Volume(image[0].cpu().numpy().astype(np.float32), image.affine.cpu().numpy().astype(np.float64))
            ready = prepared(source, self.spec)
            meta = {**image.meta, SHAPE: np.array(source.array.shape), AFFINE: source.affine}
            tensor = torch.from_numpy(np.ascontiguousarray(ready.array))
            found[key] = MetaTensor(tensor, affine=torch.from_numpy(ready.affine), meta=meta)
        return found


class Windows(Inferer):  # type: ignore[misc]
    """MONAI's sliding window with a window no larger than the image, which is then not padded."""

    def __init__(self, roi_size: Sequence[int], overlap: float) -> None:
        """Take the window's largest sides in voxels and the fraction that the next one covers too."""
        super().__init__()
        self.roi_size, self.overlap = roi_size, overlap

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Return the network's output for (B, C, D, H, W), averaged over the windows with Gaussian weights."""
        sides = [min(pair) for pair in zip(self.roi_size, inputs.shape[2:], strict=True)]
        inferer = SlidingWindowInferer(sides, overlap=self.overlap, mode="gaussian", sigma_scale=0.125)
        found: Tensor = inferer(inputs, network, *args, **kwargs)
        return found


class Restored(MapTransform):  # type: ignore[misc]
    """Turn logits (classes, d, h, w) into a map of label values on the grid of the image's file, (1, D, H, W)."""

    def __init__(self, keys: Sequence[Hashable] | Hashable, image_key: Hashable, labels: Sequence[int]) -> None:
        """Take the names of the logits, that of the prepared image, and the label value of each class."""
        super().__init__(keys)
        self.image_key, self.values = image_key, np.array(labels, np.int16)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with label maps in place of logits."""
        found = dict(data)
        image = found[self.image_key]
        shape, affine = (np.asarray(image.meta[key]) for key in (SHAPE, AFFINE))
        for key in self.key_iterator(found):
            classes = self.values[found[key].argmax(0).cpu().numpy()]
            labelled = Volume(classes, image.affine.cpu().numpy().astype(np.float64))
            on_grid = resample_onto(labelled, [int(side) for side in shape], affine.astype(np.float64), label=True)
            tensor = torch.from_numpy(on_grid.astype(np.int16))[None]
            meta = {**image.meta, "original_affine": affine, "spatial_shape": shape}
            found[key] = MetaTensor(tensor, affine=torch.from_numpy(affine.astype(np.float64)), meta=meta)
        return found
