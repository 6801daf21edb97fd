"""An Airflow of its own in a throw-away folder, set up before anything of Airflow is imported."""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

DAGS = Path(__file__).parents[1]
HOME = Path(tempfile.mkdtemp(prefix="ecdctr-airflow-"))

os.environ |= {
    "AIRFLOW_HOME": str(HOME),
    "AIRFLOW__CORE__DAGS_FOLDER": str(HOME / "dags"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps({"conn_type": "spark", "host": "local[2]"}),
    "AIRFLOW_CONN_FS_DEFAULT": json.dumps({"conn_type": "fs", "extra": {"path": "/"}}),
}  # fmt: skip
sys.path.insert(0, str(DAGS))
(HOME / "dags").mkdir()


def pytest_unconfigure(config):
    shutil.rmtree(HOME, ignore_errors=True)
