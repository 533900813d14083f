"""gvsl export: a run's network for other programs."""

from collections.abc import Sequence
from pathlib import Path

from gvsl.arguments import add_path, new_parser, parse


def export(argv: Sequence[str]) -> None:
    """Write a run's network for nnU-Net, MONAI, ONNX or TorchScript, checked against gvsl's own.

    OUT is a new folder with export.json, which states how to prepare an input and what was checked. torchscript and
    onnx accept every run, except on the backbone genesis, which cannot be exported; so does nnunet, which trains from
    the backbone, and predicts with segmentation runs; monai accepts segmentation runs on the backbone unet.
    """
    parser = new_parser(export, "RUN OUT --to nnunet|monai|onnx|torchscript|gvsl [--store STORE] [--dataset NAME]")
    add_path(
        parser,
        "run",
        "RUN",
        "the folder of a run of gvsl pretrain or gvsl transfer, its name on the Hugging Face Hub, such as owner/name, "
        "or the folder of a fold that nnU-Net has trained from an export",
    )
    add_path(parser, "out", "OUT", "the new folder to write")
    parser.add_argument(
        "--to",
        type=str,
        required=True,
        metavar="TARGET",
        help="nnunet, monai, onnx or torchscript, or gvsl, for a fold that nnU-Net has trained",
    )
    what = "nnunet: a store, whose prepared volumes are exported as an nnU-Net dataset"
    parser.add_argument("--store", type=Path, metavar="STORE", help=what)
    what = "nnunet: the dataset's name, such as Dataset004_Hippocampus"
    parser.add_argument("--dataset", type=str, metavar="NAME", help=what)
    options = parse(parser, argv)

    from gvsl.export.export import export as write_export
    from gvsl.export.result import ExportSettings

    lines = write_export(options.run, options.out, options.to, ExportSettings(options.store, options.dataset or ""))
    print("\n".join([*lines, f"{options.out}: written for {options.to}"]))
