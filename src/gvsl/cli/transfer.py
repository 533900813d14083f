"""gvsl transfer: a task learnt from labelled cases."""

from collections.abc import Sequence

from jsonargparse import Namespace

from gvsl.arguments import add_path, add_recipe, for_mode, new_parser, parse, peek, recipe_setting, settings_of
from gvsl.cli.output import print_record
from gvsl.files import refuse_existing
from gvsl.text import one_of


def transfer(words: Sequence[str]) -> None:
    """Train a task on labelled cases, from pre-trained or random weights, and score the test split once.

    Writes RUN: record.json, curves.csv, pictures/, and the network with all that gvsl predict needs. Until RUN is
    there, RUN.part holds the state that --resume goes on from.
    """
    options = transfer_options(words)
    refuse_existing(options.out)

    from gvsl.backbones.compatibility import check_width
    from gvsl.memory import keep_freed_memory
    from gvsl.store import Store
    from gvsl.transfer import part_folder, run_task

    keep_freed_memory()
    weights = None if options.weights == "scratch" else options.weights
    if weights is not None and peek(words, "--width") is not None:  # a recipe's is for random weights alone
        check_width(weights, options.settings.width)
    store = Store.open(options.store)
    try:
        record = run_task(options.task, store, weights, options.out, options.settings, resume=options.resume)
    except KeyboardInterrupt:
        resumable = part_folder(options.out).is_dir()
        mend = "--resume goes on with it" if resumable else "nothing was kept yet, so start again"
        raise KeyboardInterrupt(f"{options.out}: {mend}") from None
    if weights is not None:
        print(f"{weights}: {record.config['weights_keys']}")
        print(f"{weights}: {record.config['leakage']}")
    print_record(options.out, record)


def transfer_options(words: Sequence[str]) -> Namespace:
    """What `gvsl transfer` was told: store, task, weights, out, and TransferSettings as `settings`.

    Raises:
        UserError: an option is unknown, missing or of another type.
    """
    from gvsl.datasets.tasks import TASKS
    from gvsl.transfer.transfer_settings import MODES, TransferSettings

    mode = peek(words, "--mode") or recipe_setting(words, "transfer", "mode") or TransferSettings.mode
    usage = (
        "STORE --task NAME --weights RUN|scratch --mode linear|finetune|scratch --out RUN"
        " [--recipe NAME|FILE] [--resume] [--any.setting VALUE]"
    )
    parser = new_parser(transfer, usage)
    add_path(parser, "store", "STORE", "a folder that gvsl prepare made, with labels")
    what = f"what to learn: {'; '.join(f'{name}, {task.summary}' for name, task in TASKS.items())}"
    parser.add_argument("--task", default="segmentation", metavar="NAME", help=what)
    what = (
        "the folder of a gvsl pretrain run, its model.safetensors, a name on the Hugging Face Hub like owner/name, "
        "or the word scratch for random weights"
    )
    parser.add_argument("--weights", required=True, metavar="RUN|scratch", help=what)
    add_path(parser, "--out", "RUN", "the new folder of this run")
    add_recipe(parser)
    parser.add_argument("--resume", action="store_true", help="go on with RUN where it stopped")
    parser.add_class_arguments(TransferSettings)
    options = parse(parser, words, lambda settings: for_mode(settings, mode, MODES))
    one_of(TASKS, "task", options.task)
    options.settings = settings_of(TransferSettings, options)
    return options
