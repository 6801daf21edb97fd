"""The main job on the first days of a real log: KuaiRand, tab 1 → tab 0."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).parents[2]
# Ten days of fifteen, the last three of them walked: in time for every `make test`.
ENDS = 1_651_593_600_000
REAL = Path(os.environ.get("ECDCTR_REAL_DATA", ROOT.parent / "shared" / "data"))


@pytest.mark.skipif(not (REAL / "kuairand_pure").is_dir(), reason=f"ECDCTR_REAL_DATA: no kuairand_pure in {REAL}")
def test_daily_ad_models_beat_a_constant_and_popularity(tmp_path):
    config = str(ROOT / "conf" / "datasets" / "kuairand_tabs.yml")
    settings = [f"warehouse={tmp_path / 'warehouse'}", f"runs={tmp_path / 'runs'}", "walk_days=3", "arms=[ecdctr]"]
    settings += [f"dataset.{key}.where=tab = {tab} AND time_ms < {ENDS}" for key, tab in (("natural", 1), ("ads", 0))]
    overrides = [part for setting in settings for part in ("--set", setting)]
    done = subprocess.run(
        [sys.executable, "-m", "ecdctr", "run", "--config", config, "--json", *overrides],
        capture_output=True,
        text=True,
        timeout=850,
        cwd=ROOT,
        env=os.environ | {"ECDCTR_REAL_DATA": str(REAL)},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((tmp_path / "runs" / "kuairand_tabs" / "report.json").read_text())
    assert len(report["daily"]) == 3
    assert report["dataset"]["natural_rows"] > 100_000
    assert report["pooled"]["auc"] > 0.55
    assert report["pooled"]["auc"] > report["constants"]["popularity_auc"]
