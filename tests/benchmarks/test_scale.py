from pathlib import Path
from types import ModuleType

DOC = Path(__file__).parents[2] / "docs" / "scale.md"


def test_the_document_has_what_the_script_computes(scale: ModuleType) -> None:
    rows = scale.figures(scale.assumptions().parse_args([]))
    assert scale.table(rows) in DOC.read_text(encoding="utf-8")


def test_twice_the_gpus_take_half_an_epoch_and_the_same_run(scale: ModuleType) -> None:
    few, many = (
        {row.name: row.value for row in scale.figures(scale.assumptions().parse_args(["--gpus", gpus]))}
        for gpus in ("8", "16")
    )
    assert many["time per epoch"] * 2 == few["time per epoch"]
    assert many["time of the run"] == few["time of the run"]
    assert many["volumes read per second"] == 2 * few["volumes read per second"]
