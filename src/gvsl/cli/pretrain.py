"""gvsl pretrain, and gvsl methods, which lists its methods."""

import logging
import os
from collections.abc import Sequence
from dataclasses import asdict

from jsonargparse import Namespace

from gvsl.arguments import (
    add_path,
    add_recipe,
    add_settings,
    early_setting,
    for_method,
    new_parser,
    parse,
    print_note,
    settings_of,
)
from gvsl.argv import Note
from gvsl.cli.output import print_record
from gvsl.files import refuse_existing
from gvsl.processes import launcher_of
from gvsl.records import RECORD_NAME, read_record
from gvsl.settings.methods import PRETEXTS
from gvsl.settings.pretrain import LESS, PretrainSettings
from gvsl.text import note, one_of


def pretrain(argv: Sequence[str]) -> None:
    """Pre-train a backbone on a store's `pretrain` split, without labels.

    Writes RUN/weights (safetensors, and a config with their provenance), RUN/record.json, RUN/curves.csv and the
    checkpoints for --resume.
    """
    options = pretrain_options(argv)
    if not options.resume and not (options.out / RECORD_NAME).is_file() and launcher_of(os.environ) is None:
        refuse_existing(options.out)

    from gvsl.memory import explained_memory, keep_freed_memory
    from gvsl.store import Store
    from gvsl.training import awaits_evaluation, evaluate_pretraining
    from gvsl.training import pretrain as train
    from gvsl.training.checkpoints import has_checkpoint
    from gvsl.training.pretrain import check_store
    from gvsl.training.team import Team, joined

    # Lightning announces missing hardware and services that are not used.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    keep_freed_memory()

    def trained_before(team: Team) -> bool:
        """Return True if the run only lacks its evaluation; go on with one that a launcher has started again."""
        if team.restarts and has_checkpoint(options.out) and not options.resume:
            note(f"restart {team.restarts}: resuming {options.out}")
            options.resume = True
        if not (options.resume and awaits_evaluation(options.out)):
            return False
        check_store(options.out, read_record(options.out), store)
        return True

    try:
        with explained_memory(LESS), joined(options.settings.trainer) as team:
            store = team.each(lambda: Store.open(options.store))
            if not team.first(lambda: trained_before(team)):
                train(store, options.out, options.settings, options.method, options.resume)
            if not team.leads:
                return
            record = evaluate_pretraining(options.out, store)
    except KeyboardInterrupt:
        fix = "--resume continues it" if has_checkpoint(options.out) else "there is no checkpoint yet, so start again"
        raise KeyboardInterrupt(f"{options.out}: {fix}") from None
    print_record(options.out, record)


def pretrain_options(argv: Sequence[str], note: Note = print_note) -> Namespace:
    """Return the options of `gvsl pretrain`: store, out, method, resume, and PretrainSettings as `settings`.

    Raises:
        UserError: an option is unknown, missing or of another type.
    """
    method = one_of(PRETEXTS, "method", early_setting(argv, "pretrain", "method", "gvsl"))
    usage = "STORE --out RUN [--method NAME] [--recipe NAME|FILE] [--resume] [--SETTING VALUE ...]"
    parser = new_parser(pretrain, usage)
    add_path(parser, "store", "STORE", "a folder written by gvsl prepare, or its URL")
    add_path(parser, "--out", "RUN", "the new folder of this run")
    what = f"the method: {', '.join(PRETEXTS)}"
    parser.add_argument("--method", default=method, metavar="NAME", help=what)
    add_recipe(parser)
    parser.add_argument("--resume", action="store_true", help="continue RUN from its last checkpoint")
    add_settings(parser, PretrainSettings, skip={"pretext"})
    default = PRETEXTS[method].settings
    add_settings(parser, type(default), "pretext", default=asdict(default))
    options = parse(parser, argv, lambda settings: for_method(settings, method, PRETEXTS), note)
    options.settings = settings_of(PretrainSettings, options)
    return options


def methods(argv: Sequence[str]) -> None:
    """List the methods of gvsl pretrain, and what each learns from."""
    parse(new_parser(methods, ""), argv)
    width = max(len(name) for name in PRETEXTS)
    for name, pretext in PRETEXTS.items():
        print(f"{name:<{width}}  {pretext.summary}")
