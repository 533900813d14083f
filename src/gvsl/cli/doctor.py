"""gvsl doctor: find out what is wrong with a run."""

from collections.abc import Sequence

from gvsl.arguments import add_path, new_parser, parse


def doctor(argv: Sequence[str]) -> None:
    """Look for faults in a run's record and weights, and name the setting to change.

    Reports the findings of gvsl inspect RUN and gvsl report, and those of the weights: not finite, unchanged since
    the start, dead, saturated, blind or collapsed. Runs the network on volumes that the run keeps, and on noise.
    Takes seconds, needs no store and writes nothing.
    """
    parser = new_parser(doctor, "RUN")
    add_path(parser, "run", "RUN", "the folder of a run")
    options = parse(parser, argv)

    from gvsl.diagnosis import diagnose

    found = diagnose(options.run)
    looked = "its record alone: it has no weights"
    if found.has_weights and found.own_volumes is None:
        looked = "its record and the values of its weights, which are not run"
    elif found.own_volumes is not None:
        volumes = f"{found.own_volumes} of its own volumes and noise" if found.own_volumes else "noise"
        looked = f"its record and its weights, run on {volumes}"
    print(f"{found.run.label} ({found.run.record.kind}, {found.run.record.status}), by {looked}:")
    for finding in found.findings:
        print(f"{finding.level}: {finding.text}")
    if not found.findings:
        print("nothing found")
