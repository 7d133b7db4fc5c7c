"""Colab's way: an unmodified notebook, in an empty folder, where there is torch, NumPy and little else.

Its setup cell installs the package from the course's public address; git is told to find that address in a
local copy of this working tree. This catches what no test in a clone can: forgotten package data, a missing
dependency, an install that replaces Colab's torch or NumPy.
"""

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from tools import notebooks as canonicaliser

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = [*sorted(ROOT.glob("notebooks/*.ipynb")), *sorted(ROOT.glob("solutions/*.ipynb"))]
GIBIBYTE_IN_KIB = 2**20
# NumPy and matplotlib as old as Colab's, so that a bound that would replace them shows.
COLAB = ["torch", "numpy==2.1.3", "matplotlib==3.10.0", "ipykernel"]


def run(*command: str | Path, **options) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout


@pytest.fixture(scope="module")
def colab(tmp_path_factory) -> Path:
    """A fresh environment with Colab's packages; its Python."""
    folder = tmp_path_factory.mktemp("colab")
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    torch = next(
        line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch==")
    )
    constraints = folder / "constraints.txt"
    constraints.write_text(torch + "\n")
    pip = [python, "-m", "pip", "install", "--quiet", "--retries", "1", "--constraint", constraints]
    installed = subprocess.run([*pip, *COLAB], capture_output=True, text=True)
    if installed.returncode != 0:
        last = installed.stderr.strip().splitlines()[-1]
        if os.environ.get("CI"):
            pytest.fail(f"no environment like Colab's: {last}")
        pytest.skip(f"no environment like Colab's, is the package index out of reach? {last}")
    return python


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """A bare git repository whose branch main is this working tree, uncommitted work included."""
    folder = tmp_path_factory.mktemp("repository")
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / "tree" / name)
    git = ["git", "-c", "user.name=test", "-c", "user.email=test", "-C", folder / "tree"]
    run(*git, "init", "--quiet", "--initial-branch=main")
    run(*git, "add", "--all")
    run(*git, "commit", "--quiet", "--message=the working tree")
    run("git", "clone", "--quiet", "--bare", folder / "tree", folder / "course.git")
    return folder / "course.git"


def versions(python: Path) -> dict[str, str]:
    listed = json.loads(run(python, "-m", "pip", "list", "--format=json"))
    return {package["name"]: package["version"] for package in listed}


@pytest.fixture(scope="module")
def machine(colab, repository, tmp_path_factory) -> Iterator[Path]:
    """The Python of Colab's environment, which a kernel "python3" now starts, and with which git finds the
    course's address here.
    """
    before = versions(colab)
    assert "attn" not in before
    folder = tmp_path_factory.mktemp("jupyter")
    kernel = folder / "kernels" / "python3"
    kernel.mkdir(parents=True)
    argv = [str(colab), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(
        json.dumps({"argv": argv, "display_name": "Colab", "language": "python"})
    )
    stub = Path(run(colab, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()) / "google"
    (stub / "colab").mkdir(parents=True, exist_ok=True)
    (stub / "colab" / "__init__.py").touch()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("ATTN_DATA", "ATTN_CHECK_SHAPES", "PYTHONPATH", "VIRTUAL_ENV"):
            patch.delenv(name, raising=False)
        patch.setenv("JUPYTER_PATH", str(folder))  # its kernel "python3" goes before ours
        patch.setenv("GIT_CONFIG_COUNT", "1")
        patch.setenv("GIT_CONFIG_KEY_0", f"url.{repository.as_uri()}.insteadOf")
        patch.setenv("GIT_CONFIG_VALUE_0", canonicaliser.REPOSITORY)
        yield colab
    after = versions(colab)
    assert "attn" in after
    assert {name: after[name] for name in before} == before, "the setup cell replaced what Colab has"


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="the tests stand in no git clone")
@pytest.mark.skipif(sys.platform == "win32", reason="Colab runs on Linux")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_notebook_runs_as_it_does_in_colab(machine, tmp_path, path):
    notebook = nbformat.read(path, as_version=4)
    usage = "import resource\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    notebook.cells.append(nbformat.v4.new_code_cell(usage))
    canonicaliser.execute(notebook, tmp_path, gpu="auto", real_data="no", timeout=300)
    setup = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert setup.source == canonicaliser.SETUP
    assert setup.outputs == []
    [peak] = notebook.cells[-1].outputs
    assert int(peak.text) < 2 * GIBIBYTE_IN_KIB, "a notebook needs less than 2 GB of memory"
