"""The whole page: self-contained, escaped, honest about failures, and refused where something is broken."""

import base64
import hashlib
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gvsl.cli.report import report
from gvsl.errors import UserError
from gvsl.records import RunRecord, read_record
from gvsl.report import summary_lines, write_report
from gvsl.report.runs import read_runs
from gvsl.report.sections.names import run_anchor

OWN_RECORDS = Path(__file__).parents[2] / "docs/records"
Maker = Callable[..., Path]
EVIL = "case_<script>alert(1)</script>&\"'$x^2_$"
ADDRESSES = ("src", "href", "xlink:href", "srcset", "action", "poster", "data")
VOID = {"meta", "input", "br", "img"}
SECTIONS = {"summary", "curves", "pairs", "restorations", "dice", "segmentations", "runs"}


class Page(HTMLParser):
    """What a reader of the page meets: its elements, ids, addresses and words; unclosed elements raise."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.labels: list[str] = []
        self.words = ""
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        given = {name: value or "" for name, value in attrs}
        self.ids += [given["id"]] if "id" in given else []
        self.labels += [given["aria-label"]] if "aria-label" in given else []
        self.addresses += [given[name] for name in ADDRESSES if name in given]

    def handle_endtag(self, tag: str) -> None:
        assert self._open[-1:] == [tag], (tag, self._open[-3:], self.getpos())
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] not in ("style", "script"):
            self.words += data


@pytest.fixture(scope="module")
def whole(study: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a whole study."""
    return write_report(study, tmp_path_factory.mktemp("page") / "report.html")


def undated(path: Path) -> str:
    """A page without the day it was written, which may turn between two pages."""
    return re.sub(r"gvsl report · \d{4}-\d{2}-\d{2}", "", path.read_text(encoding="utf-8"))


def test_page_needs_nothing_but_itself(whole: Path) -> None:
    page = Page(whole)
    text = whole.read_text(encoding="utf-8")
    assert not [address for address in page.addresses if not address.startswith(("#", "data:image/png;base64,"))]
    assert not page.tags.keys() & {"link", "iframe", "object", "img"}
    own = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert len(own) == page.tags["script"] == 2
    for code in own:  # no other script would run
        assert f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'" in text
        assert not re.search(r"https?:|fetch|XMLHttpRequest|import\(", code)
    assert "@import" not in text
    assert "url(http" not in text
    assert "@font-face" not in text


def test_page_has_every_section_and_figure(whole: Path) -> None:
    page = Page(whole)
    assert set(page.ids) >= SECTIONS
    # 3 pairs of 7 stages, 2 restorations of 4, 2 cases with image, truth and 6 predictions: 3 planes each
    assert page.tags["image"] == 3 * (3 * 7 + 2 * 4 + 2 * 8)
    # 6 of pre-training, 2 of transfer, 4 of held-out pairs, the mean in the summary, its and 2 structures, Figure 6
    assert page.tags["figure"] == 6 + 2 + 4 + 1 + 3 + 1
    assert page.tags["figcaption"] == page.tags["figure"]
    assert "3 of 3 seeds" in page.words
    assert "12 of 12 cases" in page.words
    assert "9f2c4be1d07a" in page.words
    assert "AMD EPYC" in page.words
    assert '"max_steps": 2000' in page.words


def test_ids_are_unique_and_every_reference_is_met(whole: Path) -> None:
    page = Page(whole)
    assert len(page.ids) == len(set(page.ids))
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= set(page.ids)


def test_every_section_of_figures_leads_to_the_runs_that_made_them(study: list[Path], whole: Path) -> None:
    text = whole.read_text(encoding="utf-8")
    sections = dict(re.findall(r'<section id="(\w+)">(.*?)</section>', text, re.DOTALL))
    probes = {run_anchor(run) for run in read_runs(study) if run.record.kind == "transfer"}
    pretrained = {run_anchor(run) for run in read_runs(study)} - probes
    for name in ("summary", "table1", "dice", "figure6", "segmentations"):
        assert set(re.findall(r'href="#([^"]*)"', sections[name])) >= probes, name
    for name in ("summary", "curves", "pairs", "restorations"):
        assert set(re.findall(r'href="#([^"]*)"', sections[name])) >= pretrained, name


def test_no_placeholder_colour_is_left_and_both_schemes_are_there(whole: Path) -> None:
    text = whole.read_text(encoding="utf-8")
    assert "#fe00" not in text.lower()
    assert "prefers-color-scheme: dark" in text
    for variable in ("--ink", "--muted", "--rule", "--c1", "--c2", "--c3"):
        assert text.count(f"{variable}:") == 2, variable


def test_same_runs_give_the_same_page_and_a_folder_above_them_will_do(
    study: list[Path], whole: Path, tmp_path: Path
) -> None:
    again = write_report([study[0].parent], tmp_path / "again.html")
    assert undated(again) == undated(whole)


def test_user_text_is_escaped(tmp_path: Path, pretrain_folder: Maker, transfer_folder: Maker) -> None:
    row = {"id": EVIL, "dice": 0.5, f"dice/{EVIL}": 0.5}
    for seed, pretrained in ((0, True), (0, False)):
        transfer_folder(
            tmp_path / f"runs/{pretrained}",
            seed,
            pretrained,
            name=f"{EVIL}{pretrained}",
            cases=[row, row | {"id": "b", f"dice/{EVIL}": 0.6}],
            labels={"1": EVIL, "2": "b"},
            store={"name": EVIL, "hash": EVIL},
            config={
                "mode": "linear",
                "method": EVIL,
                "weights": EVIL if pretrained else "scratch",
                "more": {EVIL: EVIL},
            },
            environment={"processor": EVIL, "gvsl": EVIL},
            created=EVIL,
            metrics={EVIL: 1.0},
        )
    pair = {
        "id": EVIL,
        "ncc": 0.1,
        "ncc_affine": 0.2,
        "ncc_identity": 0.3,
        "dice_before": 0.1,
        "dice_after": 0.2,
    }
    folder = pretrain_folder(tmp_path / "runs/pretrain", name=EVIL, cases=[pair], store={"name": EVIL, "hash": EVIL})
    record = folder / "record.json"
    record.write_text(
        record.read_text(encoding="utf-8").replace('"title": "case_00', '"title": "<script>alert(2)</script>'),
        encoding="utf-8",
    )
    page = Page(write_report([tmp_path / "runs"], tmp_path / "report.html"))
    assert page.tags["script"] == 2  # the page's own
    assert page.words.count(EVIL) > 20
    assert "<script>alert(2)</script>" in page.words
    assert any(EVIL in label for label in page.labels)


@pytest.mark.slow
def test_many_methods_begin_with_their_table_and_fold_away_the_rest(
    tmp_path: Path, pretrain_folder: Maker, transfer_folder: Maker
) -> None:
    for number in range(14):
        config = {"mode": "linear", "weights": "w" if number else "scratch", "method": f"method-{number:02d}"}
        transfer_folder(tmp_path / f"runs/{number:02d}", 0, bool(number), config=config, pictures=[])
    for number in range(4):
        pretrain_folder(tmp_path / f"runs/pretrain-{number}", name=f"pretrain-{number}", pictures=[])
    path = write_report([tmp_path / "runs"], tmp_path / "report.html")
    page, text = Page(path), path.read_text(encoding="utf-8")
    assert [name for name in page.ids if name in ("summary", "table1")] == ["table1", "summary"]
    assert "of 13 linear comparisons" in page.words
    assert "17 cards: each comparison and each pre-training run by itself" in page.words
    folded = re.findall(r"<details><summary>(pretrain-\d)</summary>", text)
    assert folded == ["pretrain-3"] * 2  # of the curves and the pairs


@pytest.fixture(scope="module")
def own_records(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """Return the report of docs/records, and the folders whose records `gvsl report` read for it."""
    read: list[Path] = []
    original = read_record

    def counted(folder: Path) -> RunRecord:
        read.append(folder)
        return original(folder)

    path = tmp_path_factory.mktemp("own") / "report.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gvsl.report.runs.read_record", counted)
        report([str(OWN_RECORDS), "--out", str(path)])
    return path, read


@pytest.mark.slow
def test_each_record_is_read_once(own_records: tuple[Path, list[Path]]) -> None:
    assert sorted(own_records[1]) == sorted(path.parent for path in OWN_RECORDS.rglob("record.json"))


@pytest.mark.slow
def test_the_repositorys_own_records_make_a_page_without_the_files_that_they_name(
    own_records: tuple[Path, list[Path]],
) -> None:
    path = own_records[0]
    page, text = Page(path), path.read_text(encoding="utf-8")
    assert page.words.count("files that belong to them") == 1
    assert not {"curves", "restorations", "segmentations", "viewer"} & set(page.ids)
    assert re.search(r"<details><summary>all \d+ runs</summary>", text)
    findings = text[text.index("Findings") : text.index('class="cards wide"')]
    kinds = re.findall(r'chip (?:broken|caution)">', findings)
    once = "matching not checked against controls; gvsl pretrain STORE --out RUN --resume does"
    assert findings.count(once) == 1  # of several runs, in one line
    assert 0 < len(kinds) < 15


def test_failed_and_unfinished_runs_show_as_such(
    tmp_path: Path, pretrain_folder: Maker, transfer_folder: Maker
) -> None:
    pretrain_folder(tmp_path / "a", status="failed", cases=[], metrics={}, pictures=[], curves=None)
    transfer_folder(tmp_path / "b", 0, True, status="failed", cases=[], metrics={}, pictures=[])
    transfer_folder(tmp_path / "c", 1, True, status="running")
    page = Page(write_report([tmp_path], tmp_path / "report.html"))
    assert "2 runs failed" in page.words
    assert "linear on gvsl, seed 1: the run is stopped" in page.words
    assert "dice" not in page.ids


def test_a_broken_run_is_marked(tmp_path: Path, pretrain_folder: Maker, pair_rows: list[dict[str, Any]]) -> None:
    cases = [row | {"smooth_ncc_swapped": row["smooth_ncc"]} for row in pair_rows]
    pretrain_folder(tmp_path / "a", cases=cases, pictures=[], curves=None)
    page = Page(write_report([tmp_path], tmp_path / "report.html"))
    assert "1 run broken" in page.words
    assert "On held-out pairs, matching does not beat its controls" in page.words
    assert "it does not match: its own field is no better than another pair's field (NCC gain +0.0000" in page.words


def test_older_records_name_the_command_that_measures_the_controls(
    tmp_path: Path, pretrain_folder: Maker, pair_rows: list[dict[str, Any]]
) -> None:
    old = ("id", "ncc", "ncc_affine", "ncc_identity", "folded", "dice_before", "dice_after")
    cases = [{name: row[name] for name in old} for row in pair_rows]
    pretrain_folder(tmp_path / "a", cases=cases, pictures=[], curves=None)
    page = Page(write_report([tmp_path], tmp_path / "report.html"))
    assert f"gvsl pretrain STORE --out {tmp_path / 'a'} --resume does" in page.words
    assert "Label overlap" in page.words
    assert "Label overlap and its controls" not in page.words


def test_one_kind_of_run_alone_makes_a_page(tmp_path: Path, pretrain_folder: Maker, transfer_folder: Maker) -> None:
    pretrain_folder(tmp_path / "a/run")
    transfer_folder(tmp_path / "b/run", 0, False)
    for name, without in (("a", {"dice", "segmentations"}), ("b", {"pairs", "restorations"})):
        ids = set(Page(write_report([tmp_path / name], tmp_path / f"{name}.html")).ids)
        assert ids & SECTIONS == SECTIONS - without


def test_curves_that_are_not_there_are_left_out(tmp_path: Path, pretrain_folder: Maker) -> None:
    ones = np.linspace(1.0, 0.5, 20)
    pretrain_folder(tmp_path / "a", curves_data={"loss": ones, "restoration": ones}, pictures=[])
    page = Page(write_report([tmp_path / "a"], tmp_path / "report.html"))
    assert page.tags["figure"] == 2 + 4
    assert "restorations" not in page.ids


def test_images_of_different_grids_are_shown(tmp_path: Path, pretrain_folder: Maker) -> None:
    folder = pretrain_folder(tmp_path / "a", curves=None)
    path = folder / "pictures/pair_0.npz"
    arrays = dict(np.load(path))
    for axis in range(3):
        for name in ("moving", "moving_label"):
            arrays[f"{name}_{axis}"] = arrays[f"{name}_{axis}"][:-3, :-5]
    np.savez(path, **arrays)
    page = Page(write_report([tmp_path / "a"], tmp_path / "report.html"))
    assert page.tags["image"] == 3 * (3 * 7 + 2 * 4) - 3  # no difference of two grids


def test_existing_output_is_refused(study: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    out.write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="exists already"):
        write_report(study, out)
    assert out.read_text(encoding="utf-8") == "mine"


def test_a_folder_without_a_record_is_refused(study: list[Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "nowhere"):
        with pytest.raises(UserError, match=r"record\.json"):
            write_report([*study, folder], tmp_path / "out/report.html")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("spoil", ["truncated", "text", "array lost", "array misshapen"])
def test_a_broken_picture_is_refused_by_name(tmp_path: Path, pretrain_folder: Maker, spoil: str) -> None:
    path = pretrain_folder(tmp_path / "run") / "pictures/pair_1.npz"
    arrays = dict(np.load(path))
    if spoil == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif spoil == "text":
        path.write_text("no picture", encoding="utf-8")
    else:
        if spoil == "array lost":
            del arrays["fixed_2"]
        else:
            arrays["warped_2"] = arrays["warped_2"][:-1]
        np.savez(path, **arrays)
    with pytest.raises(UserError, match=r"pair_1\.npz"):
        write_report([tmp_path / "run"], tmp_path / "out/report.html")
    assert not (tmp_path / "out").exists()


def test_summary_lines_have_the_metrics(study: list[Path]) -> None:
    lines = summary_lines(study)
    assert len(lines) == 5
    assert lines[0].startswith("hippocampus: Linear on gvsl features: DSC 0.69")
    assert "ahead in 12 of 12 cases and in 3 of 3 seeds" in lines[0]
    assert "ncc_identity" in lines[1]
    assert "folded" in lines[1]
    assert "it matches (NCC gain +0." in lines[2]
    assert "its affine part depends on the pair (NCC gain +0." in lines[3]
    assert "affine parts move voxels by 2.500 and differ between pairs by 2.000 voxels; mean absolute" in lines[4]
    assert lines[4].endswith("0.020 of shear")


def test_renders_where_torch_is_not_installed(study: list[Path], tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('torch', 'monai', 'lightning', 'sklearn', 'nibabel', 'blosc2'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from pathlib import Path\n"
        "from gvsl.report import write_report\n"
        "write_report([Path(name) for name in sys.argv[2:]], Path(sys.argv[1]))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    out = tmp_path / "report.html"
    arguments = [sys.executable, "-c", code, str(out), *map(str, study[:2])]  # one of either kind
    done = subprocess.run(arguments, capture_output=True, text=True, encoding="utf-8", check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert out.stat().st_size > 100_000
