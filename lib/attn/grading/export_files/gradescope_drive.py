"""Grades the one submission of an autograder container with `attn grade` and leaves a valid results.json.

What is printed here Gradescope shows to instructors only. Standard library alone: this must work when nothing
else does.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

NOT_GRADED = "This submission could not be graded"
UNFENCED = (
    "NOTE FOR INSTRUCTORS: there is no fence in this container (bubblewrap is missing, or may not make "
    "namespaces), so the submission ran beside the grader, unfenced. Marks of honest submissions are right; "
    "one written to attack the grader could have set its own."
)
# Says why there is no fence, with exit code 3, where there is none.
PROBE = """
import sys
from attn.grading.fence import Fence, NoFence
try:
    with Fence():
        pass
except NoFence as why:
    print(why)
    sys.exit(3)
"""


def main(root: Path) -> None:
    """Grade root/submission, write root/results/results.json."""
    try:
        results = graded(root, json.loads((root / "source" / "settings.json").read_text(encoding="utf-8")))
    except Exception as error:  # the last resort: a student must not pay for a broken container
        print(f"{type(error).__name__}: {error}")
        results = failed("The autograder broke. Please tell your instructor.")
    write(root / "results" / "results.json", results)


def graded(root: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """What `attn grade` finds, fenced where that can be had."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "grades"
        command = ["-m", "attn.cli", "grade", str(root / "submission"), "--out", str(out)]
        command += ["--chapter", settings["chapter"], "--seed", str(settings["seed"])]
        code, said = python(root, command, settings["seconds"])
        fenced = True
        # `attn grade` names the option where there is no fence. A submission might make it do so: so probe.
        if code != 0 and "--unfenced" in said and python(root, ["-c", PROBE], 120)[0] == 3:
            fenced = False
            print(UNFENCED)
            code, said = python(root, [*command, "--unfenced"], settings["seconds"])
        if code is None:
            return failed(f"{NOT_GRADED}: it took more than {settings['seconds']} seconds.")
        if not (out / "results.json").exists():
            return failed(f"{NOT_GRADED}: {reason(said)}.", fenced=fenced)
        return checked(json.loads((out / "results.json").read_text(encoding="utf-8")), fenced=fenced)


def python(root: Path, arguments: list[str], seconds: float) -> tuple[int | None, str]:
    """Run Python with the package of the archive: exit code (None: it took too long) and stderr."""
    environment = {**os.environ, "PYTHONPATH": str(root / "source" / "lib"), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=environment,
        start_new_session=True,
    )
    try:
        said, complained = process.communicate(timeout=seconds)
        code: int | None = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        said, complained = process.communicate()
        code = None
    print(said, complained, sep="\n", flush=True)
    return code, complained


def reason(said: str) -> str:
    """The one line in which `attn` says what is wrong."""
    lines = [line.partition(": ")[2] for line in said.splitlines() if line.startswith("attn")]
    return lines[-1].rstrip(".") if lines else "the grader gave no reason; please tell your instructor"


def checked(results: Any, *, fenced: bool) -> dict[str, Any]:
    """The results, if Gradescope can read them. Raises ValueError where it could not."""
    tests = results.get("tests", []) if isinstance(results, dict) else None
    if not isinstance(tests, list) or not all(isinstance(test, dict) for test in tests):
        raise ValueError("results.json is no object with tests")
    if not isinstance(results.get("score"), int | float):
        raise ValueError("results.json has no score")
    return annotated(results, fenced)


def failed(why: str, *, fenced: bool = True) -> dict[str, Any]:
    """Results that say why there are none."""
    return annotated({"score": 0, "output": why, "tests": []}, fenced)


def annotated(results: dict[str, Any], fenced: bool) -> dict[str, Any]:
    """The results, with what instructors alone see."""
    about = {**results.get("extra_data", {}), "fenced": fenced}
    return {**results, "stdout_visibility": "hidden", "extra_data": about}


def write(path: Path, results: dict[str, Any]) -> None:
    """All of the file or nothing."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(results, indent=1, ensure_ascii=False), encoding="utf-8")
    part.replace(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
