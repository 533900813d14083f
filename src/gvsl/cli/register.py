"""gvsl register: match pairs of images, and write transforms, warped images and labels."""

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import Namespace

from gvsl.arguments import add_path, add_settings, new_parser, parse, print_note, settings_of
from gvsl.cases import Case
from gvsl.cli.output import report_failures
from gvsl.errors import UserError
from gvsl.settings.propagation import RegisterSettings
from gvsl.text import printable


def register(argv: Sequence[str]) -> None:
    """Match two images with a run that learnt to match, and write transforms that other tools read.

    Writes into DIR, on the fixed image's own grid: warped.nii.gz, the displacement field as an ITK transform (field.h5)
    and as NIfTI vectors (field.nii.gz), its affine part alone (affine.tfm), jacobian.nii.gz, with --labels also
    labels.nii.gz, and registered.json and register.html. With --pairs, into DIR/MOVING_to_FIXED for each pair, with a
    row in DIR/registered.csv; a pair that can't be used is listed with the reason, the others are processed, and the
    exit code is then 2. If stopped, repeat the command to continue a table.
    """
    options = _parse(argv)

    from gvsl.memory import keep_freed_memory
    from gvsl.prediction.pairs import ImagePair, read_pairs
    from gvsl.prediction.register import register as register_pair
    from gvsl.prediction.register import register_table
    from gvsl.report.registration import registration_page

    settings = settings_of(RegisterSettings, options)
    keep_freed_memory()

    def tell(image: Case, note: str) -> None:
        print_note(printable(f"{image.id} ({image.image}): {note}"))

    if options.pairs is None:
        pair = ImagePair(options.moving, options.fixed, options.labels, options.fixed_labels)
        record = register_pair(pair, options.weights, options.out, settings, render=registration_page, tell=tell)
        print(f"ncc      {record['ncc_before']:.4f} -> {record['ncc_after']:.4f}")
        if record["dice"] is not None and record["dice_before"] is not None:
            print(f"dice     {record['dice_before']:.4f} -> {record['dice']:.4f}")
        print(f"folded   {100 * record['folded']:.2f} %")
        print(
            f"{options.out}: registered in {sum(record['seconds'].values()):.1f} s; see {options.out / 'register.html'}"
        )
        return
    pairs = read_pairs(options.pairs)
    try:
        outcome = register_table(pairs, options.weights, options.out, settings, render=registration_page, tell=tell)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{options.out}: the same command continues it") from None
    failures = [(each.id, each.moving, reason) for each, reason in outcome.failed]
    report_failures(options.out, "pairs", len(outcome.done), len(outcome.present), failures)


def _parse(argv: Sequence[str]) -> Namespace:
    """Return the options, which name either a table or one pair."""
    parser = new_parser(
        register, "MOVING FIXED --weights RUN --out DIR [--labels FILE] [--refine N] [--pairs TABLE.csv]"
    )
    what = "a NIfTI, NRRD, MetaImage or MGZ file, or the folder of a DICOM series"
    parser.add_argument("moving", type=Path, nargs="?", metavar="MOVING", help=f"the image to warp: {what}")
    parser.add_argument("fixed", type=Path, nargs="?", metavar="FIXED", help="the image to warp it onto")
    add_path(parser, "--weights", "RUN", "the folder of a gvsl pretrain run of a method that matches")
    add_path(parser, "--out", "DIR", "the folder to write into; for a single pair it must be new")
    what = "a table with the columns moving, fixed and optionally moving_labels, fixed_labels, instead of one pair"
    parser.add_argument("--pairs", type=Path, default=None, metavar="TABLE.csv", help=what)
    what = "the moving image's label map, to carry onto the fixed image"
    parser.add_argument("--labels", type=Path, default=None, metavar="FILE", help=what)
    what = "the fixed image's own label map, to compare the carried labels with"
    parser.add_argument("--fixed-labels", type=Path, default=None, metavar="FILE", help=what)
    add_settings(parser, RegisterSettings)
    options = parse(parser, argv)
    single = (options.moving, options.fixed, options.labels, options.fixed_labels)
    if options.pairs is None and (options.moving is None or options.fixed is None):
        raise UserError("gvsl register: name a moving and a fixed image, or give --pairs TABLE.csv")
    if options.pairs is not None and any(given is not None for given in single):
        raise UserError("gvsl register: --pairs names all images and label maps; leave the others out")
    if options.fixed_labels is not None and options.labels is None:
        raise UserError("gvsl register: --fixed-labels is compared with carried labels; give --labels too")
    return options
