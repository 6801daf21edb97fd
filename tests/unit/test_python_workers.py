"""Spark's workers invalidate the import caches before each task; archives are not read anew for it."""

import subprocess
import sys
import zipfile

import pytest

pytestmark = pytest.mark.unit

SCRIPT = """
import importlib, sys, zipimport
sys.path[:0] = [{archive!r}, {folder!r}]
import packed.inner
reads, read = [], zipimport._read_directory
zipimport._read_directory = lambda path: reads.append(path) or read(path)
from ecdctr.lake.python_workers import keep_archives_read
if {kept}:
    keep_archives_read()
importlib.invalidate_caches()
open({folder!r} + "/written_later.py", "w").write("here = 1")
importlib.invalidate_caches()
import packed.other, written_later
print(len(reads))
"""


@pytest.mark.parametrize(("kept", "reads"), [(True, 0), (False, 4)])
def test_archives_are_read_once_and_all_modules_are_still_found(tmp_path, kept, reads):
    if not kept and sys.version_info >= (3, 12):
        pytest.skip("importers of archives are lazy from Python 3.12 on")
    archive = tmp_path / "packed.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for name in ("__init__", "inner", "other"):
            packed.writestr(f"packed/{name}.py", "")
    script = SCRIPT.format(archive=str(archive), folder=str(tmp_path), kept=kept)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == reads
