"""Checks that only look: machine, Python, JDK, versions, jars, Spark's settings. Together under two seconds."""

import os
import platform
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import psutil
from packaging.requirements import Requirement

from ecdctr import cores
from ecdctr.config.schema import SparkConfig
from ecdctr.doctor.check import Check
from ecdctr.exceptions import NotReadyError
from ecdctr.lake.jars import damaged, delta_jars, jars_folder

GIB = 2**30
LEAST_MEMORY, ENOUGH_MEMORY = 4 * GIB, 8 * GIB
LEAST_DISK = 2 * GIB
CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
SETUP = "run `make setup`"


def machine() -> Check:
    """Cores this process may use, memory it may take, room in the working directory."""
    count, memory, disk = cores.count(), _memory(), shutil.disk_usage(Path.cwd()).free
    detail = f"{count} cores, {memory / GIB:.1f} GiB memory, {disk / GIB:.0f} GiB free in {Path.cwd()}"
    if memory < LEAST_MEMORY or disk < LEAST_DISK:
        hint = f"needs {LEAST_MEMORY // GIB} GiB of memory and {LEAST_DISK // GIB} GiB of disk"
        return Check("machine", False, detail, hint)
    small = count < 2 or memory < ENOUGH_MEMORY
    advice = f"the main job is made for 2 cores and {ENOUGH_MEMORY // GIB} GiB; it will be slow, or short of memory"
    return Check("machine", True, detail, advice if small else None)


def python() -> Check:
    """Python 3.11, on Linux."""
    right = sys.version_info[:2] == (3, 11) and sys.platform == "linux"
    detail = f"{platform.python_version()} on {platform.system()} {platform.machine()} ({sys.executable})"
    return Check("python", right, detail, None if right else f"expected Python 3.11 on Linux: {SETUP}")


def java() -> Check:
    """The JDK that Spark will start: ``JAVA_HOME`` first, then the PATH."""
    home = os.environ.get("JAVA_HOME")
    program = str(Path(home) / "bin" / "java") if home else "java"
    hint = "apt-get install openjdk-17-jdk-headless, and point JAVA_HOME at it"
    try:
        answer = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=60, check=False).stderr
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check("java", False, f"{program} does not start: {error}", hint)
    found = re.search(r'version "(\d+)[^"]*"', answer)
    detail = f"{found[0] if found else answer.strip()[:80]} ({program})"
    return Check("java", found is not None and found[1] == "17", detail, None if found and found[1] == "17" else hint)


def versions() -> Check:
    """Every installed package against its pin, every required one present."""
    try:
        required = [Requirement(line) for line in requires("ecdctr") or []]
    except PackageNotFoundError:
        return Check("versions", False, "the package ecdctr is not installed here", SETUP)
    required = [r for r in required if r.marker is None or r.marker.evaluate({"extra": ""})]
    wrong = [_mismatch(requirement, needed=True) for requirement in required]
    pins = _pins()
    wrong += [_mismatch(pin, needed=False) for pin in pins]
    named = sorted({text for text in wrong if text})
    if named:
        return Check("versions", False, "; ".join(named[:5]) + ("; …" if len(named) > 5 else ""), SETUP)
    return Check("versions", True, f"{len(required)} required packages, {len(pins)} pins, all as expected")


def jars(thorough: bool) -> Check:
    """Delta's jars: all there and, when asked thoroughly, byte for byte what was published."""
    try:
        found = delta_jars()
    except NotReadyError as error:
        return Check("delta jars", False, error.message, error.hint)
    wrong = damaged(jars_folder()) if thorough else []
    if wrong:
        return Check("delta jars", False, f"damaged: {', '.join(wrong)}", f"delete {jars_folder()}, then {SETUP}")
    return Check("delta jars", True, f"{len(found)} in {jars_folder()}")


def spark_security(spark: SparkConfig) -> Check:
    """Whether Spark's services are shut to strangers once it spans machines."""
    settings = _spark_defaults() | spark.options
    master = settings.get("spark.master", spark.master)
    if re.match(r"local(\[|$|-cluster)", master):
        return Check("spark security", True, f"{master}: one machine, bound to the loopback")
    guarded = settings.get("spark.authenticate") == "true"
    encrypted = "true" in (settings.get("spark.network.crypto.enabled"), settings.get("spark.ssl.rpc.enabled"))
    detail = f"{master}: authentication {_on(guarded)}, network encryption {_on(encrypted)}"
    hint = "warning: set spark.authenticate=true and spark.network.crypto.enabled=true: Spark spans machines"
    return Check("spark security", True, detail, None if guarded and encrypted else hint)


def _on(switch: bool) -> str:
    return "on" if switch else "off"


def _memory() -> int:
    total = int(psutil.virtual_memory().total)
    for file in map(Path, CGROUP_LIMITS):
        text = file.read_text(encoding="ascii").strip() if file.exists() else ""
        if text.isdigit():
            total = min(total, int(text))
    return total


def _pins() -> list[Requirement]:
    """The pins of the clone that this package is run from; none for an installed wheel."""
    if not CONSTRAINTS.exists():
        return []
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def _mismatch(requirement: Requirement, *, needed: bool) -> str | None:
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        return f"{requirement.name} is missing" if needed else None
    if requirement.specifier.contains(found, prereleases=True):
        return None
    return f"{requirement.name} is {found}, expected {requirement.specifier}"


def _spark_defaults() -> dict[str, str]:
    """What the site's spark-defaults.conf says."""
    folder = os.environ.get("SPARK_CONF_DIR") or os.path.join(os.environ.get("SPARK_HOME", ""), "conf")
    file = Path(folder) / "spark-defaults.conf"
    if not file.is_file():
        return {}
    lines = (line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    pairs = (re.split(r"[\s=]+", line, maxsplit=1) for line in lines if line and not line.startswith("#"))
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}
