"""gvsl push: weights with a model card, as a folder or on the Hugging Face Hub."""

from collections.abc import Sequence
from pathlib import Path

from gvsl.arguments import add_path, new_parser, parse, print_note
from gvsl.errors import UserError
from gvsl.files import claimed, refuse_existing, scratch_folder


def push(argv: Sequence[str]) -> None:
    """Publish a run's weights with a model card on the Hugging Face Hub, or only write the folder.

    The folder has the weights (safetensors), config.json with the preprocessing that they need, and README.md with
    method, data, scores, limits and licence; for a gvsl transfer run also its head, for gvsl predict. It contains no
    paths, no names of cases or stores and nothing about the machine. A new repository is private without --public.
    """
    usage = "RUN USER/NAME [--licence ID] [--data TEXT] [--dry-run | --out FOLDER | --public --update] [--hashes]"
    parser = new_parser(push, usage)
    add_path(parser, "run", "RUN", "the folder of a finished run")
    parser.add_argument("name", metavar="USER/NAME", type=str, help="the repository on the Hub")
    what = "the licence of the weights, by the Hub's identifier, such as apache-2.0 or cc-by-nc-4.0"
    parser.add_argument("--licence", type=str, default=None, metavar="ID", help=what)
    what = "a description of the training data for the card, in your words"
    parser.add_argument("--data", type=str, default=None, metavar="TEXT", help=what)
    what = "show the files and the card, but write and upload nothing"
    parser.add_argument("--dry-run", action="store_true", help=what)
    what = "write the folder only, offline; it must not exist"
    parser.add_argument("--out", type=Path, default=None, metavar="FOLDER", help=what)
    parser.add_argument("--public", action="store_true", help="make a new repository public")
    what = "add a commit to a repository that has files; its published files are replaced"
    parser.add_argument("--update", action="store_true", help=what)
    what = "add hashes of the training images, so that others can check whether they test on one of them"
    parser.add_argument("--hashes", action="store_true", help=what)
    options = parse(parser, argv)
    update = options["update"]  # .update is the method of a mapping

    from gvsl.backbones.hub import require_hub
    from gvsl.publication import Statement, publish, upload

    statement = Statement(options.name, options.licence, options.data)
    if options.out is not None and (options.dry_run or options.public or update):
        raise UserError("--out writes a folder and sends nothing: leave out --dry-run, --public and --update")
    if statement.licence is None:
        print_note("the card states no licence: give --licence, such as apache-2.0")
    if options.out is not None:
        refuse_existing(options.out)
        with claimed(options.out, "gvsl push"):
            publish(options.run, options.out, statement, hashes=options.hashes)
        _list(options.out)
        return
    if not options.dry_run:
        require_hub("gvsl push")
    with scratch_folder("gvsl push") as scratch:
        folder = publish(options.run, scratch / "folder", statement, hashes=options.hashes)
        if options.dry_run:
            _list(folder, title=f"{statement.name}, not sent")
            print(f"\n{(folder / 'README.md').read_text(encoding='utf-8')}", end="")
        else:
            print(upload(folder, statement.name, public=options.public, update=update))


def _list(folder: Path, title: str | None = None) -> None:
    """Print the names and sizes of a folder's files."""
    print(f"{folder if title is None else title}:")
    for path in sorted(folder.iterdir()):
        print(f"  {path.name:<20} {path.stat().st_size / 1000:.1f} kB")
