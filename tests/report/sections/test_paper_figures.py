"""Figures 6, 7 and 8 on the page and as files: where there are runs for them, and what they say."""

import json
import re
from collections.abc import Callable
from html import escape, unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.text import Text

from gvsl.report import write_figures, write_report
from gvsl.report.figures.chart import chart_svg
from gvsl.report.panels_pdf import panels_figure
from gvsl.report.runs import read_runs
from gvsl.report.sections.paper_figures import paper_figures

Maker = Callable[..., Path]
EVIL = "<script>alert(1)</script>&\"'"
METHODS = ("gvsl", "gvsl-no-matching", "byol", "denoising", "inpainting", "rotation", "simclr", "simsiam")


def add_clusters(folder: Path, names: list[str], silhouette: float, notes: list[str] | None = None) -> Path:
    """Give a run a file of clusters, of 20 voxels a structure."""
    groups = [number for number in range(len(names)) for _ in range(20)]
    points = np.random.default_rng(0).normal(size=(len(groups), 2)) + 5 * np.array(groups)[:, None]
    said: dict[str, Any] = {
        "format": 1,
        "names": names,
        "cases": ["s1", "s2"],
        "points": points.round(2).tolist(),
        "groups": groups,
        "of_cases": [place % 2 for place in range(len(groups))],
        "notes": notes or [],
    }
    (folder / "clusters.json").write_text(json.dumps(said), encoding="utf-8")
    path = folder / "record.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    record["clusters"] = "clusters.json"
    record["metrics"] |= {"silhouette": silhouette, "knn_accuracy": 0.8125}
    path.write_text(json.dumps(record), encoding="utf-8")
    return folder


def without_restoration(config: dict[str, Any]) -> dict[str, Any]:
    return config | {"method": "gvsl-no-restoration", "pretext": {"restoration": False}}


CONFIG = {"method": "gvsl", "max_steps": 2000, "pretext": {"restoration": True}}


@pytest.fixture
def whole(tmp_path: Path, transfer_folder: Maker, pretrain_folder: Maker) -> Path:
    """Runs for all three figures."""
    root = tmp_path / "runs"
    for seed in (0, 1):
        for name, pretrained, silhouette in (("gvsl", True, 0.25), ("scratch", False, -0.125)):
            folder = transfer_folder(root / f"{name}-{seed}", seed, pretrained, pictures=[])
            add_clusters(folder, ["anterior", "posterior"], silhouette + seed / 8)
    bare: dict[str, Any] = {"pictures": [], "curves_data": {"ncc": np.linspace(0.6, 0.3, 100)}}
    pretrain_folder(root / "with", name="with", config=CONFIG, **bare)
    pretrain_folder(
        root / "without", name="without", config=without_restoration(CONFIG), metrics={"val/ncc": 0.4567}, **bare
    )
    return root


def cells(html: str, method: str) -> list[str]:
    """The words in a method's row of a section's first table."""
    row = next(row for row in re.findall(r"<tr>(.*?)</tr>", html) if f">{escape(method)}</td>" in row)
    return [unescape(re.sub(r"<[^>]+>", "", cell)) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row)]


def test_every_figure_is_on_the_page_and_in_its_contents(whole: Path, tmp_path: Path) -> None:
    text = write_report([whole], tmp_path / "report.html").read_text(encoding="utf-8")
    for place in (6, 7, 8):
        assert f'<section id="figure{place}">' in text
        assert f'href="#figure{place}"' in text


def test_figures_say_what_the_records_do(whole: Path) -> None:
    _, seventh, eighth = paper_figures(read_runs([whole]))
    assert cells(seventh.html.code, "gvsl")[2:] == ["0.312 ± 0.088", "0.812 ± 0.000", "0.500", "40", "2"]
    assert cells(seventh.html.code, "scratch")[2] == "−0.062 ± 0.088"
    assert cells(eighth.html.code, "gvsl-no-restoration")[2] == "0.457"
    assert "ncc of held-out pairs: gvsl 0." in eighth.html.code


@pytest.mark.slow
def test_files_are_of_the_same_blocks(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "figure6.pdf").write_text("an earlier one", encoding="utf-8")
    paths = write_figures([whole], tmp_path)
    assert [path.name for path in paths] == ["figure6.pdf", "figure7.pdf", "figure8.pdf"]
    for path, figure in zip(paths, paper_figures(read_runs([whole])), strict=True):
        content = path.read_bytes()
        assert content.startswith(b"%PDF-")
        assert f"/Title ({figure.title})".replace("(Figure", "\\(Figure").replace("))", "\\))").encode() in content
        texts = {" ".join(text.get_text().split()) for text in panels_figure(figure.blocks).findobj(Text)}
        for block in figure.blocks:
            assert f"{block.title} {block.note}".strip() in texts
            assert {entry.name for entry in block.entries} <= texts
            for panel in block.panels:
                assert {panel.title, panel.caption} <= texts
                assert chart_svg(panel.draw, panel.alt, [entry.name for entry in block.entries]) in figure.html.code


def test_a_figure_without_runs_is_not_there(tmp_path: Path, transfer_folder: Maker, pretrain_folder: Maker) -> None:
    transfer_folder(tmp_path / "a", 0, True, pictures=[])
    pretrain_folder(tmp_path / "b", config=CONFIG, pictures=[], curves=None)
    transfer_folder(tmp_path / "c", 1, False, status="failed", cases=[], metrics={}, pictures=[])
    text = write_report([tmp_path], tmp_path / "report.html").read_text(encoding="utf-8")
    assert "figure6" not in text and "figure7" not in text and "figure8" not in text
    assert write_figures([tmp_path], tmp_path / "out") == []


def test_pre_trainings_of_different_lengths_are_not_set_side_by_side_where_others_are(
    whole: Path, pretrain_folder: Maker
) -> None:
    pretrain_folder(whole / "longer", name="longer", config=CONFIG | {"max_steps": 9000}, pictures=[])
    eighth = paper_figures(read_runs([whole]))[-1]
    assert len(eighth.blocks) == 1
    assert "beside it: longer." in eighth.html.code


def test_many_methods_share_panels_and_no_two_look_alike_in_one(tmp_path: Path, transfer_folder: Maker) -> None:
    transfer_folder(tmp_path / "scratch", 0, False)
    for method in METHODS:
        config = {"mode": "linear", "weights": "w", "method": method, "max_steps": 1200, "labelled": 20, "lr": 1e-4}
        transfer_folder(tmp_path / method, 0, True, name=method, config=config, pictures=[])
    (sixth,) = paper_figures(read_runs([tmp_path]))
    (block,) = sixth.blocks
    assert [entry.name for entry in block.entries] == ["scratch", "gvsl", *sorted(set(METHODS) - {"gvsl"})]
    assert len(block.panels) == 2
    assert len({(entry.colour, entry.dash) for entry in block.entries}) == len(block.entries)
    for panel in block.panels:
        assert {0, 1} <= set(panel.keys)
        drawn = re.findall(r'class="series s(\d+)"', chart_svg(panel.draw, panel.alt))
        assert {int(place) for place in drawn} == set(panel.keys)
    assert {place for panel in block.panels for place in panel.keys} == set(range(len(block.entries)))


def test_names_are_escaped_and_notes_are_told(tmp_path: Path, transfer_folder: Maker) -> None:
    for name, pretrained in ((EVIL, True), ("scratch", False)):
        config = {"mode": "linear", "weights": "w" if pretrained else "scratch", "method": name}
        folder = transfer_folder(tmp_path / f"runs/{pretrained}", 0, pretrained, config=config)
        add_clusters(folder, [EVIL, "background near it"], 0.5, [f"one structure alone, {EVIL}"])
    figures = paper_figures(read_runs([tmp_path / "runs"]))
    for figure, path in zip(figures, write_figures([tmp_path / "runs"], tmp_path), strict=True):
        assert escape(EVIL) in figure.html.code
        assert path.stat().st_size > 1000
        texts = [" ".join(text.get_text().split()) for text in panels_figure(figure.blocks).findobj(Text)]
        assert any(EVIL in text for text in texts)
    assert f"One structure alone, {escape(EVIL)}." in figures[1].html.code


def test_a_run_without_a_plane_or_figures_shows_dashes_and_its_note(tmp_path: Path, transfer_folder: Maker) -> None:
    folder = add_clusters(transfer_folder(tmp_path / "run", 0, True), ["a"], 0.0, ["nothing to show"])
    said = json.loads((folder / "clusters.json").read_text(encoding="utf-8")) | {
        "points": [],
        "groups": [],
        "of_cases": [],
    }
    (folder / "clusters.json").write_text(json.dumps(said), encoding="utf-8")
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    for name in ("silhouette", "knn_accuracy"):
        del record["metrics"][name]
    (folder / "record.json").write_text(json.dumps(record), encoding="utf-8")
    (seventh,) = paper_figures(read_runs([tmp_path]))
    assert cells(seventh.html.code, "gvsl")[2:5] == ["–", "–", "–"]
    assert "Nothing to show." in seventh.html.code
