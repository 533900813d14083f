"""Records name the precision that a run had."""

from pathlib import Path

from gvsl.cli import main
from gvsl.hardware import resolve_precision
from gvsl.records import read_record
from gvsl.settings.pretrain import TrainerSettings


def test_auto_precision_is_recorded_as_the_one_that_was_used(store: Path, tmp_path: Path) -> None:
    shared = ["--precision", "auto", "--max-steps", "1", "--device", "cpu", "--crop", "16"]
    narrow = ["--width", "8", "--levels", "3", "--workers", "0"]
    before, after = tmp_path / "before", tmp_path / "after"
    argv = ["pretrain", str(store), "--out", str(before), "--method", "rotation", *narrow, *shared]
    assert main(argv) == 0
    argv = ["transfer", str(store), "--weights", str(before), "--out", str(after), "--clusters.points", "0", *shared]
    assert main([*argv, "--validate-every", "1"]) == 0
    used = resolve_precision(TrainerSettings(precision="auto", device="cpu")).precision
    assert used in ("fp32", "bf16")
    assert read_record(before).config["trainer"]["precision"] == used
    assert read_record(after).config["precision"] == used
