"""Reading what is exported, by what its folder holds."""

from pathlib import Path

from gvsl.backbones.weights import PretrainedBackbone, find_run, load_backbone
from gvsl.export.nnunet_results import is_results, read_results
from gvsl.export.source import Source
from gvsl.transfer import Classifier, Segmenter, load_adapted
from gvsl.transfer.weights import CONFIG_NAME as HEAD_CONFIG
from gvsl.transfer.weights import HEAD_NAME


def read_source(run: Path) -> Source:
    """Read a run of `gvsl pretrain` or `gvsl transfer`, weights on the Hugging Face Hub, or a fold trained by nnU-Net.

    Raises:
        UserError: it has no weights, or a file in it is broken.
    """
    model: Segmenter | Classifier
    if is_results(run):
        model = read_results(run)
    else:
        folder = run if run.is_file() else find_run(run, (HEAD_NAME, HEAD_CONFIG))
        if not (folder / HEAD_CONFIG).is_file():
            return Source(run, load_backbone(folder))
        model = load_adapted(folder)
    backbone = model.network.backbone
    assert isinstance(backbone, PretrainedBackbone)
    return Source(run, backbone, model)
