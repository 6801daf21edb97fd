"""Limited links: when there are none, what `tc` is told, and the fit of what they add to a step."""

import os
import shutil
import sys
import threading

import pytest

from benchmarks import links, namespaces
from benchmarks.link_model import LinkConstants, crossings, fit_links, link_seconds
from benchmarks.link_page import over_links
from benchmarks.namespaces import BURST_BYTES, Network, bucket, refusal, remove_leftovers, run
from benchmarks.scale_model import EXCHANGES, Constants, Workload, bytes_per_step
from ecdctr.distributed.local_ranks import Machines, run_ranks
from ecdctr.exceptions import ConfigError

pytestmark = pytest.mark.unit

WORK = Workload(4096, 8, 17, 1, 10_369, 1_000_000)
HOST = Constants(5e-3, 2e-6, 3e-7, 1e-3, 4e-8, 2e-3, 5e-8, 1e-8)


def made_up(true: LinkConstants):
    runs = []
    for ranks in (2, 4):
        for exchange in EXCHANGES:
            kinds = [(None, None), (1000.0, None), (200.0, None), (None, 0.0), (None, 2.0), (None, 4.0)]
            for mbit, delay in kinds:
                rate = float("inf") if mbit is None else mbit * 125_000
                # Crossings take time over any link; those of the kernel's own count as part of the ranks.
                more = link_seconds(true, WORK, ranks, exchange, rate, (delay or 0.0) / 1000)
                phases = {"input": 0.5, "forward": 0.01, "backward": 0.02, "exchange": 0.03 + more, "update": 0.0}
                link = {"mbit": mbit, "delay_ms": delay}
                runs.append({"ranks": ranks, "exchange": exchange, "work": vars(WORK), "phases": phases, "link": link})
    return runs


def test_the_fit_gives_back_the_constants_of_made_up_runs():
    true = LinkConstants(1.1, {"replicated": (2.0, 5.0), "row_wise": (4.0, 7.5)})
    runs = made_up(true)
    found = fit_links(runs)
    assert found.wire == pytest.approx(1.1)
    for exchange in EXCHANGES:
        assert found.crossings[exchange] == pytest.approx(true.crossings[exchange])
    assert crossings(runs)[4, "row_wise"] == pytest.approx(4 + 3 * 7.5)
    # What was not measured changes nothing.
    assert fit_links([run for run in runs if run["link"] == {"mbit": None, "delay_ms": None}]) == LinkConstants()


def test_a_link_adds_its_bytes_and_crossings_and_nothing_to_one_rank():
    fitted = LinkConstants(1.25, {"replicated": (1.0, 2.0)})
    sent = sum(bytes_per_step(WORK, 4, "replicated").values())
    assert link_seconds(fitted, WORK, 4, "replicated", 1e6, 0.5) == pytest.approx(1.25 * sent / 1e6 + 7 * 0.5)
    assert link_seconds(fitted, WORK, 1, "replicated", 1e6, 0.5) == 0.0


def test_the_page_says_what_was_measured_against_the_model():
    true = LinkConstants(1.1, {"replicated": (2.0, 5.0), "row_wise": (4.0, 7.5)})
    counted = [{"ranks": 2, "exchange": "row_wise", "work": vars(WORK), "bytes": 3e6}]
    rounds = [{"link": {"mbit": None, "delay_ms": None}, "idle_bytes": 7e5}]
    kept = {
        "runs": made_up(true),
        "bytes": counted,
        "rounds": rounds,
        "left_out": None,
        "load": {"2": [0.1, 1.9]},
    }
    text = "\n".join(over_links(kept, HOST, true, 2))
    assert "A sent byte takes 1.10 bytes" in text
    assert "| 1,000 | 1,000,000 | 4,096 | 4 | replicated |" in text
    assert "| 4 | row_wise | 26.5 |" in text
    assert "700 kB a second" in text
    assert "before and after: 2 ranks 0.1, 1.9" in text
    assert "Not measured" in "\n".join(over_links(None, HOST, true, 2))
    undelayed = kept | {"left_out": "no /dev/net/tun"}
    assert "no /dev/net/tun" in "\n".join(over_links(undelayed, HOST, LinkConstants(), 2))


def test_a_machine_that_gives_no_namespaces_is_told_why(monkeypatch, capsys):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "need root, and this is user 1000" in refusal()
    monkeypatch.setattr(sys, "argv", ["links"])
    assert links.main() == 2
    assert "bench-links: network namespaces need root" in capsys.readouterr().err
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "tc" else f"/sbin/{name}")
    assert "no program tc: install the Debian packages iproute2" in refusal()
    monkeypatch.setattr(shutil, "which", lambda name: f"/sbin/{name}")
    monkeypatch.setattr(namespaces, "run", refuse)
    monkeypatch.setattr(namespaces, "remove_leftovers", list)
    assert "Operation not permitted" in refusal()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "this is darwin" in refusal()


def refuse(*command):
    raise ConfigError(f"`{' '.join(command)}` failed: Operation not permitted")


def test_what_tc_is_told():
    assert bucket(200) == (
        "tbf",
        "rate",
        "200000kbit",
        "burst",
        str(BURST_BYTES),
        "limit",
        str(2_500_000 + BURST_BYTES),
    )
    with pytest.raises(ConfigError, match="`false --hard` failed: 1"):
        run("false", "--hard")
    with pytest.raises(ConfigError, match="expected 1 to 200"):
        Network(201)


def test_only_namespaces_of_processes_that_have_ended_are_removed(monkeypatch, tmp_path):
    for name in (f"ecdctr-net-{os.getpid()}-1-hub", "ecdctr-net-999999999-1-hub", "ecdctr-net-x", "other"):
        (tmp_path / name).touch()
    deleted = []
    monkeypatch.setattr(namespaces, "NAMES", tmp_path)
    monkeypatch.setattr(namespaces, "_delete", deleted.append)
    assert remove_leftovers() == deleted == ["ecdctr-net-999999999-1-hub"]


def test_each_rank_needs_a_machine(tmp_path):
    machines = Machines("10.0.0.1", "net0", ("10.0.0.2",), ((),))
    with pytest.raises(ConfigError, match="1 addresses and 1 commands for 2 ranks"):
        run_ranks(tmp_path, 2, 1, 8, "horovod", False, {}, threading.Event(), machines)
