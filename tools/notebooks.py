"""The one canonicaliser of notebooks: brings the common parts up to date, executes, writes one clean form.

    python -m tools.notebooks                           every notebook in notebooks/ and solutions/
    python -m tools.notebooks notebooks/01_*.ipynb      these only
    python -m tools.notebooks --no-execute [FILE ...]   execute nothing, write the clean form
    python -m tools.notebooks --check [FILE ...]        change nothing, say which files are not clean

Common parts are the setup cell (`SETUP` below, the first code cell, cell id "setup") and the Colab badge in
the first cell; both are inserted where they are missing. A notebook with a cell that raises, or that writes
to stderr, is left as it was.
"""

import argparse
import hashlib
import json
import os
import re
import sys
import tomllib
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from tools import tags

ROOT = Path(__file__).resolve().parent.parent
EXECUTED = ("notebooks", "solutions")  # exercises/ is generated from solutions/ and never executed
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REPOSITORY = PROJECT["urls"]["Repository"]

# The lesson's own imports, seeds and device are the next cell: this one must be equal in every notebook.
SETUP_ID = "setup"
SETUP = f"""\
# Setup: finds the course's library `attn`, or installs it (on Colab). Run this cell first; it prints nothing.
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads sleep: faster on a busy machine
if importlib.util.find_spec("attn") is None:
    clone = Path("../lib").resolve()
    if (clone / "attn").is_dir():
        sys.path.insert(0, str(clone))
    else:
        address = "git+{REPOSITORY}"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", address]
        installed = subprocess.run(pip, capture_output=True, text=True)
        if installed.returncode != 0:
            raise RuntimeError(f"pip could not install {{address}}:\\n{{installed.stderr}}")
        importlib.invalidate_caches()"""

METADATA = {
    "accelerator": "GPU",
    "colab": {"gpuType": "T4", "provenance": []},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
# What a cell's metadata may hold; editors and Colab add more, which changes from run to run.
CELL_METADATA = {"attn", "deletable", "editable", "nbgrader", "otter", "tags"}

_BADGE = "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"


def badge(path: Path) -> str:
    """The line that opens the notebook at `path` in Colab."""
    colab = REPOSITORY.replace("github.com", "colab.research.google.com/github")
    return f"{_BADGE}({colab}/blob/main/{path.resolve().parent.name}/{path.name})"


def canonical(notebook: NotebookNode, path: Path) -> NotebookNode:
    """A copy of `notebook`, which belongs at `path`, in the one clean form. Nothing is executed.

    Code cell number k has execution count k, unless it has never been executed (None): the numbers that
    "run all" gives, whether or not a cell was skipped here.
    """
    notebook = nbformat.from_dict(dict(notebook))
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata = nbformat.from_dict(METADATA)
    _put_badge(notebook, path)
    _put_setup(notebook)
    number = 0
    for cell in notebook.cells:
        kept = {key: value for key, value in cell.metadata.items() if key in CELL_METADATA and value != []}
        cell.metadata = nbformat.from_dict(kept)
        if cell.cell_type != "code":
            cell.pop("attachments", None)
            continue
        number += 1
        cell.execution_count = number if cell.execution_count is not None else None
        for output in cell.outputs:
            output.pop("transient", None)
            if output.output_type == "execute_result":
                output.execution_count = cell.execution_count
    return notebook


def _put_badge(notebook: NotebookNode, path: Path) -> None:
    if not notebook.cells or notebook.cells[0].cell_type != "markdown":
        raise ValueError(f"{path.name}: the first cell must be Markdown and begin with the title")
    lines = [line for line in notebook.cells[0].source.splitlines() if not line.startswith(_BADGE)]
    title, rest = lines[:1], lines[1:]
    while rest and not rest[0].strip():
        del rest[0]
    notebook.cells[0].source = "\n".join([*title, "", badge(path), *([""] if rest else []), *rest])


def _put_setup(notebook: NotebookNode) -> None:
    first_line = SETUP.splitlines()[0]
    for cell in notebook.cells:
        if cell.id == SETUP_ID or cell.source.startswith(first_line):
            break
    else:
        cell = nbformat.v4.new_code_cell()
        notebook.cells.insert(1, cell)
    cell.id = SETUP_ID
    cell.source = SETUP


def from_text(text: str) -> NotebookNode:
    """The notebook that a file holds. A cell without an id of its own gets one made from its text (nbformat
    would draw one at random, another one each time).
    """
    raw = json.loads(text)
    raw["nbformat_minor"] = max(5, raw["nbformat_minor"])
    seen: set[str] = set()
    for cell in raw["cells"]:
        name, source = cell.get("id", ""), "".join(cell["source"])
        while not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) or name in seen:
            name = hashlib.sha256(source.encode()).hexdigest()[:8]
            source += "+"
        cell["id"] = name
        seen.add(name)
    return nbformat.reads(json.dumps(raw), as_version=4)


def to_text(notebook: NotebookNode) -> str:
    """The notebook as the file holds it: sorted keys, one space of indent, a newline at the end."""
    return nbformat.writes(notebook).rstrip("\n") + "\n"


class _Client(NotebookClient):
    """Executes the cells that can run here. A skipped one keeps the outputs and the state of its last run."""

    def __init__(self, notebook: NotebookNode, *, gpu: str, real_data: str, **options) -> None:
        super().__init__(notebook, **options)
        self._choice = {"gpu": gpu, "real_data": real_data}
        self.skipped: list[str] = []

    async def async_execute_cell(self, cell, cell_index, *args, **kwargs):
        reason = tags.skip_reason(cell.metadata.get("tags", []), **self._choice)
        if reason:
            self.skipped.append(reason)
            return cell
        return await super().async_execute_cell(cell, cell_index, *args, **kwargs)


def execute(notebook: NotebookNode, folder: Path, *, gpu: str, real_data: str, timeout: float) -> list[str]:
    """Execute `notebook` in place, in a new kernel that works in `folder`. Returns why cells were skipped.

    Raises nbclient's CellExecutionError where a cell raises.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if os.environ.get("ATTN_DATA"):
        environment["ATTN_DATA"] = str(Path(os.environ["ATTN_DATA"]).resolve())
    client = _Client(
        notebook,
        gpu=gpu,
        real_data=real_data,
        timeout=timeout,
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=environment)
    return client.skipped


def _refuse_stderr(notebook: NotebookNode) -> None:
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "stream" and output.name == "stderr":
                raise ValueError(f"a cell writes to stderr:\n{cell.source}\n---\n{output.text}")


def write(path: Path, text: str) -> None:
    """Write through a file beside it, so that no crash leaves half a notebook."""
    beside = path.with_suffix(".tmp")
    beside.write_text(text, encoding="utf-8", newline="\n")
    beside.replace(path)


_IN_THE_KERNEL = (CellExecutionError, CellTimeoutError, DeadKernelError)
_IN_THE_FILE = (nbformat.ValidationError, ValueError, OSError)


def _make(path: Path, options: argparse.Namespace) -> bool:
    """Bring one notebook into the clean form or, with --check, say whether it is. True where all is well."""
    try:
        before = path.read_text(encoding="utf-8")
        notebook = canonical(from_text(before), path)
        skipped = []
        if not (options.check or options.no_execute):
            choice = {"gpu": options.gpu, "real_data": options.real_data}
            skipped = execute(notebook, path.parent, **choice, timeout=options.timeout)
            _refuse_stderr(notebook)
            notebook = canonical(notebook, path)
    except (*_IN_THE_KERNEL, *_IN_THE_FILE) as error:
        print(f"{path}: FAILED, the file is untouched\n{error}", file=sys.stderr)
        return False
    after = to_text(notebook)
    for reason in skipped:
        print(f"{path}: skipped, its last outputs kept: {reason}")
    if options.check:
        if before != after:
            print(f"{path}: not in the clean form; run `make notebooks NB={path}`", file=sys.stderr)
        return before == after
    if before != after:
        write(path, after)
    print(f"{path}: {'unchanged' if before == after else 'written'}")
    return True


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.notebooks", description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, help="default: all of notebooks/ and solutions/")
    parser.add_argument("--check", action="store_true", help="change nothing; fail where a file is not clean")
    parser.add_argument("--no-execute", action="store_true", help="clean without executing")
    parser.add_argument("--gpu", choices=tags.CHOICES, default="auto", help="run cells tagged gpu")
    parser.add_argument("--real-data", choices=tags.CHOICES, default="auto", help="run real-data cells")
    parser.add_argument("--timeout", type=float, default=900, help="seconds a cell may take")
    options = parser.parse_args(arguments)
    files = options.files or sorted(p for folder in EXECUTED for p in (ROOT / folder).glob("*.ipynb"))
    made = [_make(path, options) for path in files]
    return 0 if all(made) else 1


if __name__ == "__main__":
    sys.exit(main())
