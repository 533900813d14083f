"""`prepare` on a Dask cluster."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gvsl.cases import Case
from gvsl.preprocessing import PRESETS

from .helpers import contents, run

MR = PRESETS["mr"]
MakeCase = Callable[..., Case]


WORKERS = """
import sys
from distributed import LocalCluster
if __name__ == "__main__":
    cluster = LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="tcp://127.0.0.1", dashboard_address=None
    )
    print(cluster.scheduler_address, flush=True)
    sys.stdin.read()
    cluster.close()
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    """Yield the address of a scheduler with two workers that communicate over TCP."""
    pytest.importorskip("distributed")
    script = tmp_path / "workers.py"
    script.write_text(WORKERS, encoding="utf-8")
    process = subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdin is not None
    yield process.stdout.readline().strip()
    process.stdin.close()
    process.wait(60)
    process.stdout.close()


@pytest.mark.slow
def test_a_dask_cluster_makes_the_same_store(tmp_path: Path, make_case: MakeCase, cluster: str) -> None:
    assert cluster.startswith("tcp://")
    cases = [make_case(f"case{index}") for index in range(5)]
    cases[2].image.write_bytes(b"nothing")
    counts: list[int] = []

    def counted(count: int) -> Callable[[], None]:
        counts.append(count)
        return lambda: counts.append(1)

    _, work = run(cases, tmp_path / "dask", dask=cluster, progress=counted)
    assert (work.prepared, work.refused) == (4, 1)
    assert counts == [5, *[1] * 5]
    run(cases, tmp_path / "here")
    assert contents(tmp_path / "dask") == contents(tmp_path / "here")
    _, work = run(cases[3:], tmp_path / "dask", dask=cluster)
    assert (work.prepared, work.kept) == (0, 2)
