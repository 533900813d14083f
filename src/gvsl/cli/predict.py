"""gvsl predict: segmentation or classification of images by a transfer run."""

from collections.abc import Sequence
from pathlib import Path

from gvsl.arguments import add_path, add_settings, new_parser, parse, print_note, settings_of
from gvsl.cases import Case
from gvsl.cli.output import report_images
from gvsl.settings.predict import PredictSettings
from gvsl.text import printable


def predict(argv: Sequence[str]) -> None:
    """Segment or classify images with a run of gvsl transfer, each in its own geometry.

    Writes DIR/NAME.nii.gz for each image, on the image's grid and with its header if it is NIfTI, and DIR/labels.json;
    a classification writes DIR/scores.csv. An image that can't be used is listed with the reason and the others are
    done; the exit code is then 2. After a stop, the same command continues with the missing images.
    """
    parser = new_parser(predict, "RUN IMAGE... --out DIR [--output labels|probabilities] [--mirror]")
    add_path(parser, "run", "RUN", "the folder of a gvsl transfer run")
    what = "NIfTI, NRRD, MetaImage or MGZ files, folders of them, or folders of DICOM series"
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help=what)
    add_path(parser, "--out", "DIR", "the folder to write into, created if missing")
    add_settings(parser, PredictSettings)
    options = parse(parser, argv)

    from gvsl.memory import keep_freed_memory
    from gvsl.prediction import find_images
    from gvsl.prediction import predict as predict_images

    images = find_images(options.images)
    keep_freed_memory()

    def tell(image: Case, note: str) -> None:
        print_note(printable(f"{image.id} ({image.image}): {note}"))

    try:
        outcome = predict_images(options.run, images, options.out, settings_of(PredictSettings, options), tell)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{options.out}: the same command continues it") from None
    report_images(options.out, outcome)
