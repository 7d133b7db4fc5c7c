"""Every test of the course, part by part: what `make test` runs. A part that fails does not stop the others.

Arguments go to pytest, as in `make test ARGS="-k masks"`.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CODE = ["lib", "tests", "tools", "benchmarks", "conftest.py"]
NOTEBOOKS = ["notebooks", "solutions", "exercises"]


def parts(pytest_arguments: list[str]) -> dict[str, list[str]]:
    """The commands, quick ones first; pytest last, so that its closing line stands just above the summary."""
    code = [name for name in CODE if (ROOT / name).exists()]
    notebooks = [name for name in NOTEBOOKS if any((ROOT / name).glob("*.ipynb"))]
    executed = [
        name for name in notebooks if name != "exercises"
    ]  # tests/grading runs these, blank and solved
    nbval = ["--nbval", "--nbval-current-env", "--nbval-cell-timeout=300"]
    # Two files at a time. A notebook's cells need each other, so a file is never split. In the order of
    # conftest.py: xdist's own begins with the files of most tests, and ends with a long one alone.
    side_by_side = ["-n", str(min(2, os.cpu_count() or 1)), "--dist", "loadfile", "--no-loadscope-reorder"]
    return {
        "ruff check": ["ruff", "check", "--quiet", *code, *notebooks],
        "ruff format": ["ruff", "format", "--quiet", "--check", *code, *notebooks],
        "mypy": ["mypy"],
        "notebooks in clean form": ["tools.notebooks", "--check"],
        "exercises up to date": ["tools.exercises", "--check"],
        "pytest": ["pytest", *nbval, *side_by_side, "tests", *executed, *pytest_arguments],
    }


def environment() -> dict[str, str]:
    """Ours, with one thread, and ATTN_DATA absolute (a notebook's kernel works in the notebook's folder)."""
    made = {**os.environ, "OMP_NUM_THREADS": "1"}
    if os.environ.get("ATTN_DATA"):
        folder = Path(os.environ["ATTN_DATA"]).resolve()
        if not folder.is_dir():
            sys.exit(f"ATTN_DATA={folder} is no folder: name one that holds the data.")
        made["ATTN_DATA"] = str(folder)
    return made


def main() -> int:
    settings = environment()
    results = []
    for name, command in parts(sys.argv[1:]).items():
        print(f"--- {name}", flush=True)
        start = time.monotonic()
        rc = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env=settings).returncode
        results.append((name, rc == 0, time.monotonic() - start))
    print()
    for name, passed, seconds in results:
        print(f"{'ok    ' if passed else 'FAILED'}  {name} ({seconds:.0f} s)")
    return 0 if all(passed for _, passed, _ in results) else 1


if __name__ == "__main__":
    sys.exit(main())
