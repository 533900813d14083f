"""gvsl propagate: propagate labels of a few labelled volumes onto images by matching."""

from collections.abc import Sequence
from pathlib import Path

from gvsl.arguments import add_path, add_settings, new_parser, parse, print_note, settings_of
from gvsl.cases import Case
from gvsl.cli.output import report_images
from gvsl.files import shown
from gvsl.settings.propagation import PropagateSettings
from gvsl.text import printable


def propagate(argv: Sequence[str]) -> None:
    """Propagate the labels of a few labelled volumes onto images, with a run of gvsl pretrain that matches.

    ATLASES is a store, or a folder with images/ and labels/. Writes DIR/NAME.nii.gz and DIR/NAME_confidence.nii.gz for
    each image, on its own grid, and DIR/propagated.csv with the DSC of the labels propagated back onto an atlas. An
    image that does not match any atlas gets no map and is listed with the reason; the exit code is then 2. If stopped,
    repeat the command to continue.
    """
    parser = new_parser(propagate, "ATLASES IMAGE... --weights RUN --out DIR [--cases ID ...] [--SETTING VALUE ...]")
    add_path(parser, "atlases", "ATLASES", "a store, its URL, or a folder with images/ and labels/ with the same names")
    what = "a store, or its URL; or NIfTI, NRRD, MetaImage or MGZ files, folders of them, or folders of DICOM series"
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help=what)
    add_path(parser, "--weights", "RUN", "the folder of a gvsl pretrain run of a method that matches")
    add_path(parser, "--out", "DIR", "the folder to write into, created if missing")
    what = "further stores or folders of atlases"
    parser.add_argument("--more-atlases", type=Path, nargs="+", default=[], metavar="ATLASES", help=what)
    what = "ids of the atlases; if not given, all cases of a folder, or the labelled cases of a store's split train"
    parser.add_argument("--cases", type=str, nargs="+", default=[], metavar="ID", help=what)
    what = "the split of a store whose images get labels"
    parser.add_argument("--split", type=str, default="pretrain", metavar="NAME", help=what)
    add_settings(parser, PropagateSettings)
    options = parse(parser, argv)

    from gvsl.memory import keep_freed_memory
    from gvsl.prediction.propagate import propagate as propagate_labels

    keep_freed_memory()

    def tell(image: Case, note: str) -> None:
        print_note(printable(f"{image.id} ({shown(image.image)}): {note}"))

    try:
        outcome = propagate_labels(
            [options.atlases, *options.more_atlases],
            options.images,
            options.weights,
            options.out,
            settings_of(PropagateSettings, options),
            cases=options.cases,
            split=options.split,
            tell=tell,
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{options.out}: the same command continues it") from None
    for atlas, structure in outcome.atlases.lacking:
        print(f"atlas {atlas} has no voxel of {structure}: it votes for background there")
    for atlas in outcome.atlases.ignoring:
        print(f"atlas {atlas} has ignored voxels: it has no vote there; where none has one, value and confidence are 0")
    report_images(options.out, outcome.images)
