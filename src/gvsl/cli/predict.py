"""gvsl predict: segmentation or classification of images by a transfer run."""

from collections.abc import Sequence
from pathlib import Path

from gvsl.arguments import add_path, add_settings, new_parser, parse, peek, print_note, settings_of
from gvsl.cases import Case
from gvsl.cli.output import report_images
from gvsl.errors import UserError
from gvsl.files import shown
from gvsl.settings.predict import PredictSettings
from gvsl.text import printable


def predict(argv: Sequence[str]) -> None:
    """Segment or classify images with a run of gvsl transfer, each in its own geometry.

    IMAGE is a file, a folder, or one prepared store. Writes DIR/NAME.nii.gz for each image, on the image's grid and
    with its header if it is NIfTI, and DIR/labels.json; a classification writes DIR/scores.csv. For a store's cases,
    the grid is that of their sources, or with --grid store the store's own. An image that can't be used is listed with
    the reason and the others are processed; the exit code is then 2. If stopped, repeat the command to continue with
    the missing images.
    """
    parser = new_parser(predict, "RUN IMAGE... --out DIR [--output labels|probabilities] [--mirror]")
    if peek(argv, "--weights") is None:  # with RUN optional, options between it and IMAGE would end the positionals
        what = (
            "the folder of a gvsl transfer run, or its name on the Hugging Face Hub, such as owner/name; leave it out "
            "if --weights names it"
        )
        add_path(parser, "run", "RUN", what)
    what = "a store, or its URL; or NIfTI, NRRD, MetaImage or MGZ files, folders of them, or folders of DICOM series"
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help=what)
    parser.add_argument(
        "--weights", type=Path, default=None, metavar="RUN", help="the same as RUN, as in other commands"
    )
    add_path(parser, "--out", "DIR", "the folder to write into, created if missing")
    what = "the split of a store to predict; all of its cases if not given"
    parser.add_argument("--split", type=str, default=None, metavar="NAME", help=what)
    add_settings(parser, PredictSettings)
    options = parse(parser, argv)
    run, paths = options.weights or options.run, options.images

    from gvsl.memory import keep_freed_memory
    from gvsl.prediction import find_images
    from gvsl.prediction import predict as predict_images
    from gvsl.prediction.targets import is_store
    from gvsl.store import Store

    stored = len(paths) == 1 and is_store(paths[0])
    if options.split is not None and not stored:
        raise UserError("gvsl predict: --split names a split of a store; leave it out for files")
    images = Store.open(paths[0]) if stored else find_images(paths)
    keep_freed_memory()

    def tell(image: Case, note: str) -> None:
        print_note(printable(f"{image.id} ({shown(image.image)}): {note}"))

    try:
        outcome = predict_images(
            run, images, options.out, settings_of(PredictSettings, options), tell, split=options.split
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{options.out}: the same command continues it") from None
    report_images(options.out, outcome)
