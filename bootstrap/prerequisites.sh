#!/bin/sh
# Names what the machine lacks, each with the Debian package that brings it, then prints the Python to use.
# Reads PYTHON, JAVA_HOME and CXX as the later steps do.
set -u

missing=0
lacks() { # what, package
    echo "set-up: $1 not found; on Debian: apt-get install $2" >&2
    missing=1
}

python=
for candidate in "${PYTHON:-}" python3.11 python3 python; do
    [ -n "$candidate" ] || continue
    if "$candidate" -c 'import sys; raise SystemExit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    lacks "Python 3.11" "python3.11 python3.11-venv python3.11-dev"
else
    "$python" -c 'import os, sysconfig
raise SystemExit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' ||
        lacks "Python 3.11's headers (Python.h)" python3.11-dev
    command -v uv >/dev/null || "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        lacks "Python 3.11's venv module (or uv)" python3.11-venv
fi

# As Spark does: JAVA_HOME first, then the PATH.
java=${JAVA_HOME:+$JAVA_HOME/bin/}java
version=$("$java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p')
[ "$version" = 17 ] ||
    lacks "JDK 17 ($java is ${version:+version }${version:-missing})" "openjdk-17-jdk-headless, and point JAVA_HOME at it"

${CXX:-c++} -std=c++20 -x c++ -fsyntax-only /dev/null 2>/dev/null || lacks "C++20 compiler (${CXX:-c++})" g++
command -v cmake >/dev/null || lacks "cmake" cmake
command -v make >/dev/null || lacks "make" make

[ $missing -eq 0 ] || exit 2
echo "$python"
