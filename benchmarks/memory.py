"""What holds the memory of a rank: resident set by part of its life, and by kind of memory at the end.

One process trains on the peers' click log as a rank does: `python -m benchmarks.memory DATA --model din`, with a folder that the
peers' generator has written.
"""

import argparse
import ctypes
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

SHOWN = 8


def main() -> None:
    """Print one line per part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="holds meta.json, train/ and test/")
    parser.add_argument("--model", choices=["deepfm", "din"], default="deepfm")
    parser.add_argument("--batch-size", type=int, default=2048)
    arguments = parser.parse_args()
    say("Python")
    import pyarrow

    say("pyarrow")
    import torch

    torch.set_num_threads(1)
    say("torch")
    from benchmarks.clickbench import ClickBench
    from ecdctr.distributed.single import SingleProcess
    from ecdctr.distributed.tasks import Signals
    from ecdctr.training.level import train_level

    say("ecdctr, pandas, Petastorm")
    with tempfile.TemporaryDirectory(prefix="ecdctr-memory-") as name:
        task = ClickBench(arguments.data).task(
            arguments.model, work=Path(name), batch_size=arguments.batch_size, seed=1, ranks=1, training={}
        )

        def report(progress: dict[str, Any]) -> None:
            step = progress["step"]
            # At powers of two, since whatever grows with the steps shows there.
            if step & (step - 1) == 0:
                say(f"step {step}")

        record = train_level(SingleProcess(), task, Signals(stop_requested=lambda: False, report=report))
    say("published")
    print(
        f"{record['peak_rss_bytes'] / 2**20:8,.0f} MB at most; tables and their state {record['table_bytes'] / 2**20:,.0f} MB"
    )
    print(f"{pyarrow.default_memory_pool().max_memory() / 2**20:8,.0f} MB of Arrow's at most")
    for kind, size in by_kind().most_common(SHOWN):
        print(f"{size / 2**10:8,.0f} MB {kind}")
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    say("after the allocator gave back what is free")


def say(what: str) -> None:
    """The resident set now."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    size = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    print(f"{size / 2**10:8,.0f} MB {what}", flush=True)


def by_kind() -> Counter[str]:
    """Resident KiB of each library, of the heap, and of other memory without a file."""
    found: Counter[str] = Counter()
    kind = ""
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            kind = Path(words[5]).name if len(words) > 5 else "without a file"
        elif words[0] == "Rss:":
            found[kind] += int(words[1])
    return found


if __name__ == "__main__":
    main()
