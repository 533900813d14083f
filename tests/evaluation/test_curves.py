from pathlib import Path

from gvsl.evaluation.curves import write_curves


def test_what_was_not_logged_is_blank(tmp_path: Path) -> None:
    write_curves(
        tmp_path / "c.csv",
        ("step", "loss", "val_dice"),
        [{"step": 1, "loss": 0.5}, {"step": 2, "val_dice": 0.25}],
    )
    assert (tmp_path / "c.csv").read_text().split() == ["step,loss,val_dice", "1,0.5,", "2,,0.25"]
