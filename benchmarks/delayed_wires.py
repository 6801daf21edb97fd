"""Wires that keep what machines send for a while, in a process of its own: not every kernel has `netem`, which does the same.

    python -m benchmarks.delayed_wires MILLISECONDS NAMESPACE:INTERFACE=NAMESPACE:INTERFACE …

Each wire joins two new TAP interfaces. Frames that enter at the left end leave at the right one so much later, those
that enter at the right one at once; so a packet between two machines, both at left ends, is kept once. Prints `ready`.
"""

import fcntl
import os
import select
import struct
import sys
import time
from collections import deque

from benchmarks.namespaces import NAMES, enter

TUN = "/dev/net/tun"
TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
FRAME_BYTES = 65_600


def tap(namespace: str, interface: str) -> int:
    """Make an interface in a namespace, whose packets are read from and written to the descriptor."""
    with (NAMES / namespace).open() as place:
        enter(place.fileno())
    descriptor = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", interface.encode(), IFF_TAP | IFF_NO_PI))
    return descriptor


def carry(seconds: float, wires: list[tuple[int, int]]) -> None:
    """Pass frames on for ever.

    Args:
        seconds: That a frame which enters at a left end is kept.
        wires: Left and right descriptor of each.
    """
    other = dict(wires) | {right: left for left, right in wires}
    delayed = {left for left, _ in wires}
    kept: deque[tuple[float, int, bytes]] = deque()
    while True:
        wait = max(0.0, kept[0][0] - time.monotonic()) if kept else None
        for descriptor in select.select(list(other), [], [], wait)[0]:
            due = time.monotonic() + seconds if descriptor in delayed else 0.0
            while (frame := read(descriptor)) is not None:
                if due:
                    kept.append((due, other[descriptor], frame))
                else:
                    write(other[descriptor], frame)
        while kept and kept[0][0] <= time.monotonic():
            _, descriptor, frame = kept.popleft()
            write(descriptor, frame)


def read(descriptor: int) -> bytes | None:
    """The next frame; None where there is none just now."""
    try:
        return os.read(descriptor, FRAME_BYTES)
    except BlockingIOError:
        return None


def write(descriptor: int, frame: bytes) -> None:
    """Hand a frame over; like a wire, lose it where nobody listens."""
    try:
        os.write(descriptor, frame)
    except OSError:
        return


def main() -> None:
    """Make the interfaces, say so, and carry."""
    milliseconds, *wires = sys.argv[1:]
    ends = [tuple(tap(*end.split(":")) for end in wire.split("=")) for wire in wires]
    print("ready", flush=True)
    carry(float(milliseconds) / 1000, [(left, right) for left, right in ends])


if __name__ == "__main__":
    main()
