"""Which signal a run stops at, of several."""

import signal
from pathlib import Path

import pytest
import torch
from torch import distributed

from gvsl.training.stop_at_signal import StopAtSignal

TERM, USR1 = signal.SIGTERM, signal.SIGUSR1


@pytest.mark.parametrize(
    ("received", "expected"), [([], 0), ([TERM], TERM), ([USR1], USR1), ([USR1, TERM], USR1), ([TERM, USR1], USR1)]
)
def test_a_requeue_stays_wanted(received: list[int], expected: int) -> None:
    stop = StopAtSignal(Path("last.ckpt"))
    for number in received:
        stop._receive(number, None)
    assert stop._agreed(1) == expected


@pytest.mark.parametrize("received", [[TERM, TERM], [TERM, USR1, TERM], [USR1, TERM, TERM]])
def test_a_second_sigterm_stops_at_once(received: list[int]) -> None:
    stop, before = StopAtSignal(Path("last.ckpt")), signal.getsignal(TERM)
    for number in received[:-1]:
        stop._receive(number, None)
    try:
        with pytest.raises(KeyboardInterrupt):
            stop._receive(received[-1], None)
    finally:
        signal.signal(TERM, before)


class _Arrived:
    def wait(self) -> None:
        """Nothing is under way."""


@pytest.mark.parametrize(
    ("here", "there", "expected"), [(0, 0, 0), (TERM, 0, TERM), (TERM, USR1, USR1), (USR1, TERM, USR1), (0, USR1, USR1)]
)
def test_of_several_processes_one_that_wants_a_requeue_decides(
    here: int, there: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    votes: list[torch.Tensor] = []

    def reduce(vote: torch.Tensor, operation: object, group: object, *, async_op: bool) -> _Arrived:
        """Reduce the votes of two processes, the other's first."""
        assert operation == distributed.ReduceOp.MAX
        votes.append(vote.clone())
        vote.copy_(torch.maximum(vote, votes[0]))
        return _Arrived()

    monkeypatch.setattr(distributed, "all_reduce", reduce)
    processes = [StopAtSignal(Path("last.ckpt")) for _ in range(2)]
    for process, number in zip(processes, (there, here), strict=True):
        if number:
            process._receive(number, None)
        assert process._agreed(2) == 0  # of the step before
    assert processes[1]._agreed(2) == expected
