"""Network namespaces joined by a bridge: machines with addresses and links of their own, on one Linux machine.

The bridge lies in a namespace too, so nothing is added to the machine's own network, no address can clash with its own,
and deleting the namespaces removes all there was. The file system is the machine's.
"""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from ecdctr.distributed.local_ranks import Machines
from ecdctr.exceptions import ConfigError

PREFIX = "ecdctr-net"
INTERFACE = "net0"
"""Name of the network interface within each namespace."""
NAMES = Path("/run/netns")
ROOT = Path(__file__).parents[1]
NETWORK = "10.213.77"
MAX_MACHINES = 200
BURST_BYTES = 128 * 1024
"""More than the largest packet that the kernel hands to a link in one piece, and a millisecond of a gigabit."""
QUEUE_SECONDS = 0.1
DELAYED_MTU = "9000"
CLONE_NEWNET = 0x40000000
END_SECONDS = 5.0


def refusal(delay_ms: float | None = None) -> str | None:
    """Why this machine gives no namespaces with limited links; None where it does. Tries it with one.

    Args:
        delay_ms: As of `Network`.
    """
    if sys.platform != "linux":
        return f"network namespaces are Linux's, and this is {sys.platform}"
    if os.geteuid() != 0:
        return f"network namespaces need root, and this is user {os.geteuid()}"
    missing = [name for name in ("ip", "tc", "unshare") if shutil.which(name) is None]
    if missing:
        return f"no program {' and '.join(missing)}: install the Debian packages iproute2 and util-linux"
    try:
        with Network(1, delay_ms) as network, network.inside():
            network.limit(100)
            run(*network.command(0), "true")
    except (ConfigError, OSError) as error:
        return str(error)
    return None


def remove_leftovers() -> list[str]:
    """Delete the namespaces of processes that have ended without doing so; returns their names."""
    found = []
    for path in sorted(NAMES.glob(f"{PREFIX}-*")):
        owner = path.name.removeprefix(f"{PREFIX}-").split("-")[0]
        if owner.isdigit() and not Path("/proc", owner).exists():
            _delete(path.name)
            found.append(path.name)
    return found


class Network:
    """So many machines on one bridge, and the place of the bridge, where a driver may live.

    Args:
        machines: How many, beside the bridge's.
        delay_ms: How long a packet from one machine to another is kept on its way; None: the kernel passes it on. A
            process carries delayed packets, and takes some time of a core for that, also where they are kept for 0 ms.

    Raises:
        ConfigError: The kernel or a program refused a step; all that was made is removed.
    """

    def __init__(self, machines: int, delay_ms: float | None = None) -> None:
        if not 1 <= machines <= MAX_MACHINES:
            raise ConfigError(f"{machines} machines on a bridge: expected 1 to {MAX_MACHINES}")
        self.size, self.delay_ms = machines, delay_ms
        self.mbit: float | None = None
        base = f"{PREFIX}-{os.getpid()}-{time.monotonic_ns() % 1_000_000}"
        self.hub = f"{base}-hub"
        self.names = [f"{base}-{at}" for at in range(machines)]
        self._wires: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        try:
            self._make()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _make(self) -> None:
        remove_leftovers()
        for name in (self.hub, *self.names):
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "-n", self.hub, "link", "add", INTERFACE, "type", "bridge")
        run("ip", "-n", self.hub, "addr", "add", f"{self.driver_address}/24", "dev", INTERFACE)
        run("ip", "-n", self.hub, "link", "set", INTERFACE, "up")
        if self.delay_ms is None:
            for at, name in enumerate(self.names):
                peer = ("peer", "name", INTERFACE, "netns", name)
                run("ip", "-n", self.hub, "link", "add", _port(at), "type", "veth", *peer)
        else:
            self._lay_wires(self.delay_ms)
        for at, name in enumerate(self.names):
            run("ip", "-n", self.hub, "link", "set", _port(at), "master", INTERFACE, "up")
            # One address each, and no others that a program might choose.
            run("ip", "-n", name, "link", "set", INTERFACE, "addrgenmode", "none")
            run("ip", "-n", name, "addr", "add", f"{self.address(at)}/24", "dev", INTERFACE)
            run("ip", "-n", name, "link", "set", INTERFACE, "up")

    def _lay_wires(self, delay_ms: float) -> None:
        wires = [f"{name}:{INTERFACE}={self.hub}:{_port(at)}" for at, name in enumerate(self.names)]
        self._wires = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.delayed_wires", str(delay_ms), *wires],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        assert self._wires.stdout is not None
        if self._wires.stdout.readline() != "ready\n":
            said = self._wires.communicate()[1].strip().splitlines()
            raise ConfigError(
                f"delayed links cannot be made: {said[-1] if said else 'their process ended'}",
                hint="they need /dev/net/tun",
            )
        for at, name in enumerate(self.names):
            # Each packet costs the process the same: larger ones, as in data centres.
            run("ip", "-n", name, "link", "set", INTERFACE, "mtu", DELAYED_MTU)
            run("ip", "-n", self.hub, "link", "set", _port(at), "mtu", DELAYED_MTU)

    @property
    def driver_address(self) -> str:
        """Of the bridge's own place."""
        return f"{NETWORK}.1"

    def address(self, machine: int) -> str:
        """Of a machine."""
        return f"{NETWORK}.{machine + 2}"

    def command(self, machine: int) -> tuple[str, ...]:
        """What stands before a command line that is to run on a machine."""
        return _command(self.names[machine], self.address(machine))

    @property
    def driver_command(self) -> tuple[str, ...]:
        """What stands before a command line that is to run at the bridge."""
        return _command(self.hub, self.driver_address)

    def machines(self) -> Machines:
        """One rank on each machine, for a driver at the bridge."""
        everywhere = range(self.size)
        return Machines(
            self.driver_address,
            INTERFACE,
            tuple(self.address(at) for at in everywhere),
            tuple(self.command(at) for at in everywhere),
        )

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Put this thread, and the threads and processes that it starts meanwhile, where the bridge is."""
        with Path("/proc/thread-self/ns/net").open() as home, (NAMES / self.hub).open() as hub:
            enter(hub.fileno())
            try:
                yield
            finally:
                enter(home.fileno())

    def limit(self, mbit: float | None) -> None:
        """Limit what every machine sends, and what it receives.

        Args:
            mbit: Megabits per second, headers of packets included; None: as fast as the kernel copies.
        """
        ends = [(name, INTERFACE) for name in self.names] + [(self.hub, _port(at)) for at in range(self.size)]
        for place, interface in ends:
            if self.mbit is not None:
                run("tc", "-n", place, "qdisc", "del", "dev", interface, "root")
            if mbit is not None:
                run("tc", "-n", place, "qdisc", "add", "dev", interface, "root", *bucket(mbit))
        self.mbit = mbit

    def cut(self, machine: int) -> None:
        """Pull a machine's plug: nothing reaches it or comes from it, and no open connection is told so."""
        run("ip", "-n", self.hub, "link", "set", _port(machine), "down")

    def mend(self, machine: int) -> None:
        """Put the plug back."""
        run("ip", "-n", self.hub, "link", "set", _port(machine), "up")

    def sent(self, machine: int) -> int:
        """Bytes that a machine has sent so far; where its link is unlimited, with one header for a packet of up to 64 kB."""
        shown = json.loads(run("ip", "-n", self.names[machine], "-j", "-s", "link", "show", INTERFACE))
        return int(shown[0]["stats64"]["tx"]["bytes"])

    def close(self) -> None:
        """Remove all that was made, and end what still runs on the machines; again does nothing."""
        # A Ctrl-C meanwhile is served afterwards.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            for name in (*self.names, self.hub):
                if (NAMES / name).exists():
                    _delete(name)
            if self._wires is not None:
                self._wires.kill()
                self._wires.communicate()
                self._wires = None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def bucket(mbit: float) -> tuple[str, ...]:
    """What `tc qdisc add … root` is told for such a rate: a token bucket, and room for what waits for it."""
    waiting = int(mbit * 1e6 / 8 * QUEUE_SECONDS) + BURST_BYTES
    return ("tbf", "rate", f"{round(mbit * 1000)}kbit", "burst", str(BURST_BYTES), "limit", str(waiting))


def run(*command: str) -> str:
    """Run `ip` or `tc`, and return what it prints.

    Raises:
        ConfigError: It failed.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(
            f"`{' '.join(command)}` failed: {done.stderr.strip() or done.returncode}",
            hint="network namespaces need root, iproute2, and a kernel with veth, bridge and tbf",
        )
    return done.stdout


def _command(name: str, address: str) -> tuple[str, ...]:
    """Runs what follows it in a namespace, on a machine whose name is its address.

    Horovod's second Gloo context takes the address that the machine's name stands for, whatever interface it is told.
    """
    rename = 'echo "$0" > /proc/sys/kernel/hostname && exec "$@"'
    return ("ip", "netns", "exec", name, "unshare", "--uts", "sh", "-c", rename, address)


def _port(machine: int) -> str:
    """The bridge's end of a machine's link."""
    return f"port{machine}"


def enter(descriptor: int) -> None:
    """Put this thread into a network namespace; Python has no call of its own for it before 3.12."""
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, f"cannot enter a network namespace: {os.strerror(number)}")


def _delete(name: str) -> None:
    """End a namespace's processes and delete it."""
    with suppress(ConfigError):
        deadline = time.monotonic() + END_SECONDS
        while (pids := _processes(name)) and time.monotonic() < deadline:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
    with suppress(ConfigError):
        run("ip", "netns", "del", name)


def _processes(name: str) -> list[int]:
    """Process ids in a namespace, without this process, one of whose threads may be there."""
    return [pid for pid in map(int, run("ip", "netns", "pids", name).split()) if pid != os.getpid()]
