"""What ranks do together, on one process and on threads; and errors that travel."""

import errno
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ecdctr.distributed.failures import ExchangeError, describe, revive, worst
from ecdctr.distributed.inline import run_inline
from ecdctr.distributed.inline_session import InlineSession
from ecdctr.distributed.launch import parts_of_start
from ecdctr.distributed.lives import Lives
from ecdctr.distributed.mailbox import OPENINGS, Mailbox, Pulse, life_name
from ecdctr.distributed.single import SingleProcess
from ecdctr.distributed.spark_slots import check_spark
from ecdctr.distributed.tasks import current_signals, run_task
from ecdctr.exceptions import ConfigError, InputError, NotReadyError, TrainingError


def everything(collective) -> dict:
    rank = collective.rank
    number, other = torch.tensor([rank + 1.0]), torch.tensor([[rank, 2]])
    collective.all_reduce_many_([number, other])
    column = torch.zeros(3, 2).t()[0] + rank
    exchanged = collective.all_to_all(torch.arange(collective.size) * 10 + rank, [1] * collective.size)
    return {
        "sum": (number.tolist(), other.tolist()),
        "column": collective.all_reduce_(column).tolist(),
        "extremes": [collective.all_reduce_(torch.tensor([rank]), op).item() for op in ("min", "max")],
        "gathered": collective.all_gather(torch.full((rank, 2), float(rank))).tolist(),
        "exchanged": [part.tolist() for part in exchanged],
        "broadcast": collective.broadcast_(torch.tensor([rank]), collective.size - 1).tolist(),
        "json": collective.all_gather_json({"rank": rank, "text": "a\nb\u2028ü"}),
        "any": (collective.any(rank == 1), collective.any(False)),
        "same": (collective.same("digest"), collective.same(str(rank))),
    }


def test_three_ranks_agree_on_everything():
    results = run_inline(3, everything)
    for rank, result in enumerate(results):
        assert result.pop("exchanged") == [[rank * 10], [rank * 10 + 1], [rank * 10 + 2]]
        assert result == {
            "sum": ([6.0], [[3, 6]]),
            "column": [3.0, 3.0, 3.0],
            "extremes": [0, 2],
            "gathered": [[1.0, 1.0], [2.0, 2.0], [2.0, 2.0]],
            "broadcast": [2],
            "json": [{"rank": at, "text": "a\nb\u2028ü"} for at in range(3)],
            "any": (True, False),
            "same": (True, False),
        }


def test_one_process_equals_one_inline_rank():
    assert everything(SingleProcess()) == run_inline(1, everything)[0]


def test_splits_must_send_every_row():
    for splits in ([1, 1], [3], [4, -1]):
        with pytest.raises(ValueError, match="splits"):
            run_inline(2, lambda collective, splits=splits: collective.all_to_all(torch.zeros(3), splits))


def test_a_failing_inline_rank_releases_the_others():
    def work(collective):
        if collective.rank == 1:
            raise InputError("bad rows")
        collective.barrier()

    with pytest.raises(InputError, match="bad rows"):
        run_inline(3, work)


def test_tasks_are_found_by_name_alone():
    assert run_task("probe", SingleProcess(), {"repeat": 2})["sum"] == 1.0
    with pytest.raises(ConfigError, match=r"no task 'os.system': expected one of \['probe'"):
        run_task("os.system", SingleProcess(), {})


def test_an_inline_session_tells_where_it_stands():
    seen = []
    with InlineSession() as session:
        (result,) = session.call("probe", {"repeat": 3}, on_progress=seen.append)
    assert result["sum"] == 1.0
    assert seen[-1] == {"step": 3, "steps": 3}
    assert current_signals().stop_requested() is False


def raised(error: BaseException) -> dict:
    try:
        raise error
    except type(error) as caught:
        return describe(caught)


def test_errors_of_this_package_keep_kind_hint_and_exit_code():
    back = revive(raised(NotReadyError("no day 3", hint="wait")), 1, "rank1.log")
    assert (type(back), back.message, back.hint, back.exit_code) == (NotReadyError, "no day 3", "wait", 3)
    assert "On rank 1" in back.__notes__[0]
    foreign = revive(raised(KeyError("x")), 1, "rank1.log")
    assert (type(foreign), foreign.message) == (TrainingError, "rank 1: KeyError: 'x'")


def test_a_ranks_own_error_comes_before_echoes_of_it():
    echo, own = {"error": raised(ExchangeError("lost"))}, {"error": raised(ValueError("x"))}
    assert worst({0: echo, 1: own}) == (1, own["error"])
    assert worst({0: echo, 1: {"result": {}}}) == (0, echo["error"])
    assert worst({0: {"result": {}}}) is None


def test_a_pulse_counts_only_while_the_counter_stands_still():
    pulse = Pulse()
    pulse.see(1)
    assert pulse.see(2) == 0.0
    assert pulse.see(2) >= 0.0


def test_a_mailbox_shows_whole_files_only(tmp_path):
    mailbox = Mailbox(tmp_path)
    assert mailbox.read("a.json") is None
    mailbox.write("a.json", {"x": [1]})
    mailbox.write("a.json", {"x": [2]})
    assert mailbox.read("a.json") == {"x": [2]}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def failing_reads(monkeypatch, number: int, times: int) -> None:
    """Have the first so many reads of files end in an error, as NFS does when a file is replaced meanwhile."""
    whole, left = Path.read_text, [number] * times

    def read_text(path: Path, **options) -> str:
        if left:
            raise OSError(left.pop(), "as told")
        return whole(path, **options)

    monkeypatch.setattr(Path, "read_text", read_text)


def test_a_file_that_was_replaced_while_it_was_read_is_opened_again(tmp_path, monkeypatch):
    mailbox = Mailbox(tmp_path)
    mailbox.write("a.json", {"x": 1})
    failing_reads(monkeypatch, errno.ESTALE, OPENINGS - 1)
    assert mailbox.read("a.json") == {"x": 1}
    failing_reads(monkeypatch, errno.ESTALE, OPENINGS)
    assert mailbox.read("a.json") is None
    assert mailbox.read("a.json") == {"x": 1}
    failing_reads(monkeypatch, errno.EIO, 1)
    with pytest.raises(OSError, match="as told"):
        mailbox.read("a.json")


def test_a_rank_whose_sign_stays_unreadable_is_silent(tmp_path, monkeypatch):
    mailbox = Mailbox(tmp_path)
    lives = Lives(mailbox, 2)
    mailbox.write(life_name(0), {"beat": 1, "host": "elsewhere"})
    lives.look()
    failing_reads(monkeypatch, errno.ESTALE, 2 * OPENINGS)
    time.sleep(0.05)
    lives.look()
    assert lives.silence(0) >= 0.05
    assert lives.silence(1) == 0
    assert not lives.gone(0)


@pytest.mark.parametrize(
    ("options", "ranks", "match"),
    [
        ({"spark.master": "local[2]"}, 2, "expected at least 3"),
        ({"spark.master": "local"}, 1, "runs 1 tasks at a time"),
        ({"spark.master": "local[6]", "spark.task.cpus": "2"}, 3, r"local\[8\]"),
        ({"spark.master": "local-cluster[2,1,1024]"}, 2, "expected at least 3"),
        ({"spark.master": "yarn"}, 2, "spark.task.maxFailures is 4: training needs 1"),
        ({"spark.master": "local[3]", "spark.speculation": "true"}, 2, "spark.speculation is true"),
        (
            {"spark.master": "yarn", "spark.task.maxFailures": "1", "spark.dynamicAllocation.enabled": "true"},
            2,
            "dynamicAllocation",
        ),
    ],
)
def test_spark_that_cannot_hold_ranks_is_refused(options, ranks, match):
    with pytest.raises(ConfigError, match=match):
        check_spark(lambda name, default: options.get(name, default), ranks)


@pytest.mark.parametrize("master", ["local[3]", "local[3, 4]", "local-cluster[3,1,1024]", "spark://host:7077"])
def test_spark_that_can_hold_ranks_passes(master):
    options = {"spark.master": master, "spark.task.maxFailures": "1"}
    asked = []
    check_spark(lambda name, default: asked.append(name) or options.get(name, default), 2)
    assert "spark.master" in asked


@pytest.mark.parametrize(
    ("whole", "tasks", "process"),
    [(9.0, 2.0, 3.0), (5.5, 1.5, 0.0), (3.0, 0.0, 0.0)],
    ids=["the rest is the process's start", "born before it was noted", "clocks that differ widely"],
)
def test_no_part_of_the_start_is_negative(whole, tasks, process):
    of_rank = {"rank_imports": 1.0, "rendezvous": 3.0}
    assert parts_of_start(2.0, whole, of_rank) == {"spark_tasks": tasks, "process_start": process, **of_rank}


def test_a_driver_that_starts_ranks_does_not_import_torch():
    code = (
        "import sys, ecdctr.distributed.launch; print([m for m in ('torch', 'horovod', 'pyspark') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
