"""Plans of nnU-Net v2 that build a run's network and prepare images as gvsl does, as far as plans can say it."""

from collections.abc import Mapping, Sequence
from typing import Any

from gvsl.errors import UserError
from gvsl.export.nnunet_network import architecture
from gvsl.export.source import Source
from gvsl.preprocessing import preprocessing_values

NAME = "gvslPlans"
CONFIGURATION = "3d_fullres"
READER = "NibabelIOWithReorient"
"""nnU-Net's reader that turns images to RAS, with the axes reversed; the plans turn them back."""
CONTRACT = "gvsl"
"""Key of the plans, which nnU-Net passes over and copies to its results, with what gvsl needs to take these back."""
OVERLAP = 0.5
"""Fraction of a window that the next one covers too, in nnU-Net's prediction."""
BATCH_SIZE = 2
"""nnU-Net's own for large patches."""


def plans(
    source: Source,
    dataset: str,
    patch: Sequence[int],
    *,
    prepared: bool,
    kernel: int = 0,
    labels: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Return the plans of a dataset with one configuration, 3d_fullres.

    Args:
        source: the run.
        dataset: name of nnU-Net's dataset.
        patch: voxels along each axis.
        prepared: the images are a store's, and are not normalised; else they are clipped and scaled as the run's
            window, as nnU-Net's CTNormalization does with the lower bound as mean and the width as deviation.
        kernel: see `architecture`.
        labels: a store's label values in the order of nnU-Net's; None if they are the same.
    """
    channels, spec = source.backbone.in_channels, source.backbone.preprocessing
    spacing = list(spec.voxel)
    scheme = "NoNormalization" if prepared else "CTNormalization"
    linear = {"order": 1, "order_z": 0, "force_separate_z": False}
    configuration = {
        "data_identifier": f"{NAME}_{CONFIGURATION}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": BATCH_SIZE,
        "patch_size": list(patch),
        "median_image_size_in_voxels": [float(side) for side in patch],
        "spacing": spacing,
        "normalization_schemes": [scheme] * channels,
        "use_mask_for_norm": [False] * channels,
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"is_seg": False, **linear},
        "resampling_fn_seg_kwargs": {"is_seg": True, **linear},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {"is_seg": False, **linear},
        "architecture": architecture(source.backbone, kernel),
        "batch_dice": False,
    }
    lower, upper = (0.0, 1.0) if prepared else (spec.lower, spec.upper)
    intensities = {
        "max": upper,
        "mean": lower,
        "median": lower,
        "min": lower,
        "percentile_00_5": lower,
        "percentile_99_5": upper,
        "std": upper - lower,
    }
    return {
        "dataset_name": dataset,
        "plans_name": NAME,
        "original_median_spacing_after_transp": spacing,
        "original_median_shape_after_transp": list(patch),
        "image_reader_writer": READER,
        "transpose_forward": [2, 1, 0],
        "transpose_backward": [2, 1, 0],
        "configurations": {CONFIGURATION: configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        CONTRACT: {
            "preprocessing": preprocessing_values(spec),
            "labels": None if labels is None else list(labels),
            "provenance": source.backbone.provenance,
        },
        "foreground_intensity_properties_per_channel": {str(number): intensities for number in range(channels)},
    }


def label_values(names: Sequence[str]) -> dict[str, int]:
    """Return nnU-Net's values of background and structures by name: 0, 1, 2, ...

    Raises:
        UserError: two structures have one name, or one is called background; nnU-Net has one value for a name.
    """
    values = {name: value for value, name in enumerate(["background", *names])}
    if len(values) <= len(names):
        twice = next(name for place, name in enumerate(names) if name in ["background", *names[:place]])
        raise UserError(f"nnU-Net needs a name of its own for each structure, and {twice!r} is taken: rename it")
    return values


def dataset_json(labels: Mapping[str, int], cases: int, channels: int) -> dict[str, Any]:
    """Return the dataset.json of a dataset.

    Args:
        labels: see `label_values`.
        cases: number of training cases.
        channels: of an image.
    """
    return {
        "channel_names": {str(number): "noNorm" for number in range(channels)},
        "labels": dict(labels),
        "numTraining": cases,
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": READER,
    }


def patch_for(crop: Sequence[int], levels: int, median: Sequence[int] | None = None) -> list[int]:
    """Return a run's crop as a patch that the levels divide, which nnU-Net's deep supervision needs.

    Args:
        crop: voxels along each axis.
        levels: of the network.
        median: voxels of the median volume, which the patch doesn't exceed, as in nnU-Net's own plans.

    >>> patch_for((128, 128, 128), 4, (35, 51, 35)), patch_for((32, 48, 20), 4)
    ([32, 48, 32], [32, 48, 16])
    """
    step = 2 ** (levels - 1)
    limits = crop if median is None else [min(pair) for pair in zip(crop, median, strict=True)]
    return [max(step, side // step * step) for side in limits]
