#!/bin/sh
# Makes .venv and installs the course into it; does nothing when that was done for these very requirements.
# PYTHON=/path/to/python chooses the Python for a new .venv. Called by make.
set -eu
cd "$(dirname "$0")/.."

# What the set-up depends on. The folder is part of it: a moved clone must be linked anew.
wanted() { pwd; cat requirements.txt constraints.txt pyproject.toml; }
# Whether "$@" is a Python that the course can use.
usable() { "$@" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

if [ -f .venv/installed ] && wanted | cmp -s - .venv/installed && usable .venv/bin/python; then
    exit 0
fi

if ! usable .venv/bin/python || ! .venv/bin/python -c 'import pip' 2>/dev/null; then
    if [ -n "${PYTHON:-}" ]; then
        found=$PYTHON
        if ! usable "$found"; then
            echo "PYTHON=$PYTHON is not a Python 3.11 or newer. Name one that is, or leave PYTHON out." >&2
            exit 1
        fi
    else
        found=
        for candidate in python3 python3.13 python3.12 python3.11 python3.14 python; do
            if usable "$candidate"; then
                found=$candidate
                break
            fi
        done
        if [ -z "$found" ]; then
            echo "The course needs Python 3.11 or newer, and none was found on the PATH." >&2
            echo "Install one (https://www.python.org/downloads/), or name it: make course PYTHON=/path/to/python3" >&2
            exit 1
        fi
    fi
    echo "Making .venv with $("$found" --version)"
    if ! "$found" -m venv --clear .venv; then
        echo "Python's venv module does not work here. On Debian and Ubuntu: sudo apt install python3-venv" >&2
        exit 1
    fi
fi

echo "Installing the course into .venv (the first time takes some minutes)"
.venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --constraint constraints.txt --requirement requirements.txt --editable '.[dev]'
wanted >.venv/installed
echo "Done."
