"""A run of segmentation for gvsl itself: the way back from nnU-Net, whose results gvsl predict then takes."""

from pathlib import Path

from gvsl.export.result import Exported, ExportSettings
from gvsl.export.source import Source, require_segmenter
from gvsl.transfer import TransferSettings, save_adapted
from gvsl.transfer.weights import segmenter_config


def write(source: Source, folder: Path, settings: ExportSettings) -> Exported:
    """Write weights/, head.safetensors and head.json.

    Args:
        source: what nnU-Net has trained.
        folder: to write into.
        settings: none applies.

    Raises:
        UserError: it is no network for segmentation.
    """
    model = require_segmenter(source, "gvsl")
    save_adapted(
        folder,
        model.network,
        segmenter_config(model.labels, model.network.head.kernel_size[0]),
        settings=TransferSettings(crop=model.crop, overlap=model.overlap),
        method=source.backbone.method,
        preprocessing=model.preprocessing,
        provenance=source.backbone.provenance,
        learnt_from=source.backbone.learnt_from,
    )
    return Exported({})
