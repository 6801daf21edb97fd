#!/bin/sh
# Tests the DAG in a real Airflow: an environment in the user's cache, made once for these versions, and a throw-away home.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3.11}
key=$(cat "$here/requirements.txt" "$here/constraints.txt" | sha256sum | cut -c 1-12)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/ecdctr
environment=$cache/airflow-$key
mkdir -p "$cache"

exec 9>"$cache/airflow.lock"
flock 9
if [ ! -e "$environment/.complete" ]; then
    echo "airflow-test: installing Airflow into $environment"
    rm -rf "$environment"
    if command -v uv >/dev/null; then
        uv venv --quiet --python "$python" "$environment"
        uv pip install --quiet --python "$environment/bin/python" -r "$here/requirements.txt" -c "$here/constraints.txt"
    else
        "$python" -m venv "$environment"
        "$environment/bin/python" -m pip install --quiet --disable-pip-version-check \
            -r "$here/requirements.txt" -c "$here/constraints.txt"
    fi
    touch "$environment/.complete"
fi
flock -u 9

unset PYTHONPATH
exec "$environment/bin/python" -m pytest -c "$here/tests/pytest.ini" --rootdir "$here/tests" -p no:cacheprovider "$here/tests" "$@"
