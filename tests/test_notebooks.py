"""What nbval cannot see in a notebook; and that nbval, our hook and the canonicaliser keep their promises."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from attn import progress
from attn.tasks.sources import SOURCES
from tools import notebooks as canonicaliser

ROOT = Path(__file__).resolve().parent.parent
LESSONS = sorted(ROOT.glob("notebooks/*.ipynb"))
EXECUTED = [*LESSONS, *sorted(ROOT.glob("solutions/*.ipynb"))]
ALL = [*EXECUTED, *sorted(ROOT.glob("exercises/*.ipynb"))]

CLAIMS = {concept.id for concept in progress.concepts(ROOT)}
MAY_BE_SKIPPED = {"gpu", "real-data"}
DATA = {f"data:{name}" for name in SOURCES}
TAGS = {*MAY_BE_SKIPPED, *DATA, "nbval-ignore-output", *(f"claim:{claim}" for claim in CLAIMS)}
MEBIBYTE = 2**20

each_lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
each_executed = pytest.mark.parametrize("path", EXECUTED, ids=lambda path: f"{path.parent.name}/{path.stem}")
each = pytest.mark.parametrize("path", ALL, ids=lambda path: f"{path.parent.name}/{path.stem}")


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(path: Path) -> list[NotebookNode]:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def tags_of(cell: NotebookNode) -> set[str]:
    return set(cell.metadata.get("tags", []))


def markdown(path: Path) -> str:
    return "\n\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")


# The committed notebooks


@each
def test_common_parts_are_the_ones_of_the_template(path):
    cells = read(path).cells
    assert canonicaliser.badge(path) in cells[0].source.splitlines()
    assert code_cells(path)[0].source == canonicaliser.SETUP


@each
def test_is_in_the_clean_form(path):
    text = path.read_text(encoding="utf-8")
    assert text == canonicaliser.to_text(canonicaliser.canonical(canonicaliser.from_text(text), path))


@each_executed
def test_was_executed_from_the_first_cell_to_the_last(path):
    for number, cell in enumerate(code_cells(path), start=1):
        never = cell.execution_count is None and not cell.outputs
        assert cell.execution_count == number or (never and tags_of(cell) & MAY_BE_SKIPPED), cell.source


@each
def test_outputs_hold_no_error_and_nothing_of_this_machine(path):
    of_a_machine = re.compile(
        r"/(home|root|Users|tmp|work|mnt|usr|opt|content)/\w|[A-Z]:\\\w|\b0x[0-9a-f]{6,}"
    )
    pixels = re.compile(r"[A-Za-z0-9+/=]{200,}")  # a slider's frames in base64: any letters may stand there
    for cell in read(path).cells:
        assert not of_a_machine.search(cell.source), cell.source
        for output in cell.get("outputs", []):
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", cell.source
            data = output.get("data", {})
            text = output.get("text", "") + data.get("text/plain", "") + data.get("text/html", "")
            assert not of_a_machine.search(pixels.sub("", text)), f"{cell.source}\n---\n{text}"


@each
def test_no_cell_hides_its_result_behind_a_semicolon(path):
    for cell in code_cells(path):
        assert not cell.source.rstrip().endswith(";"), cell.source


@each
def test_is_small_enough_to_load_on_a_telephone(path):
    assert path.stat().st_size <= 2 * MEBIBYTE


@each_executed
def test_every_image_says_in_words_what_to_see(path):
    for cell in code_cells(path):
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                alt = output.metadata.get("image/png", {}).get("alt", "")
                assert len(alt.split()) >= 4, f"an image without alt text, made by:\n{cell.source}"


@each
def test_tags_are_known(path):
    for cell in read(path).cells:
        assert tags_of(cell) <= TAGS, cell.source
        named = bool(tags_of(cell) & DATA)
        assert named == ("real-data" in tags_of(cell)), f"real-data cells name their data:\n{cell.source}"


@each_executed
def test_claims_are_asserted(path):
    for cell in code_cells(path):
        if any(tag.startswith("claim:") for tag in tags_of(cell)):
            assert progress.asserts(cell.source), cell.source


@each_lesson
def test_every_concept_of_the_chapter_is_proved_and_practised(path):
    own = [row for row in progress.standings(ROOT) if row.concept.chapter == path.name[:2]]
    assert own, "docs/concepts.md has no such chapter"
    missing = [row.concept.id for row in own if not row.done]
    assert not missing, f"{path.name}: attn progress --concepts shows what is missing for {missing}"


@each_lesson
def test_claims_are_those_of_the_chapter(path):
    own = {f"claim:{row.id}" for row in progress.concepts(ROOT) if row.chapter == path.name[:2]}
    for cell in code_cells(path):
        assert {tag for tag in tags_of(cell) if tag.startswith("claim:")} <= own, cell.source


@each_lesson
def test_lesson_has_its_frame(path):
    first, everything = read(path).cells[0].source, markdown(path)
    assert re.match(rf"# {path.stem[:2]}\b", first), "the title begins with the lesson's number"
    for part in (r"\bminutes?\b", r"you need", r"after this you can"):
        assert re.search(part, first, re.IGNORECASE), f"the first cell lacks: {part}"
    for heading in ("What we have verified", "Exercises", "References"):
        assert re.search(rf"^#+ .*{heading}", everything, re.MULTILINE | re.IGNORECASE), heading
    verified = everything.partition("What we have verified")[2].partition("\n## ")[0]
    for concept in progress.concepts(ROOT):
        if concept.chapter == path.name[:2]:
            assert f"`{concept.id}`" in verified, f"not among what was verified: {concept.id}"
    assert any(tag.startswith("claim:") for cell in code_cells(path) for tag in tags_of(cell))


def bound_and_read(cell: NotebookNode) -> tuple[set[str], set[str]]:
    """The names that the cell binds at module level (or anywhere), and those that it reads."""
    bound, used = set(), set()
    for node in ast.walk(progress.parse(cell.source)):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            bound |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return bound, used


@each_executed
def test_a_skipped_cell_never_breaks_a_later_one(path):
    cells = code_cells(path)
    for place, cell in enumerate(cells):
        skipped_with = tags_of(cell) & MAY_BE_SKIPPED
        if not skipped_with:
            continue
        before = set().union(*(bound_and_read(earlier)[0] for earlier in cells[:place]))
        new = bound_and_read(cell)[0] - before
        for later in cells[place + 1 :]:
            if not skipped_with <= tags_of(later):
                bound, used = bound_and_read(later)
                missing = new & (used - bound)
                assert not missing, f"{missing} come from a cell that may be skipped:\n{later.source}"


@each_executed
def test_gpu_cells_are_guarded_in_code_too(path):
    for cell in code_cells(path):
        if "gpu" in tags_of(cell):
            assert re.search(r"\bif\b.*cuda", cell.source), f"a reader without CUDA runs this:\n{cell.source}"


# The hook of conftest.py, seen from outside

MADE = {
    "tagged": [
        new_code_cell("print('always')", id="always"),
        new_code_cell("on_gpu = True", id="gpu", metadata={"tags": ["gpu"]}),
        new_code_cell("on_data = True", id="data", metadata={"tags": ["real-data", "data:multi30k"]}),
        new_code_cell("print('later')", id="later"),
    ],
    "failing": [
        new_code_cell("assert False, 'the gpu cell ran'", id="gpu", metadata={"tags": ["gpu"]}),
        new_code_cell("print('later')", id="later"),
    ],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder of small notebooks, executed without CUDA and data; in one of them an output was changed."""
    folder = tmp_path_factory.mktemp("made") / "notebooks"
    folder.mkdir()
    for name, cells in MADE.items():
        notebook = new_notebook(cells=[new_markdown_cell(f"# {name}", id="title"), *cells])
        nbformat.write(notebook, folder / f"{name}.ipynb")
    made = [str(folder / f"{name}.ipynb") for name in MADE]
    assert canonicaliser.main([*made, "--gpu", "no", "--real-data", "no"]) == 0
    changed = (folder / "tagged.ipynb").read_text().replace('"later\\n"', '"LATER\\n"')
    (folder / "changed.ipynb").write_text(changed)
    for available in (True, False):
        plugin = f"import torch\ntorch.cuda.is_available = lambda: {available}\n"
        (folder.parent / f"cuda_{available}.py".lower()).write_text(plugin)
    data = folder.parent / "data" / SOURCES["multi30k"].folder
    data.mkdir(parents=True)
    for file in SOURCES["multi30k"].files:
        (data / file.name).touch()
    return folder


def nbval(made: Path, *arguments: str, cuda: bool, data: bool) -> dict[str, str]:
    """What became of each cell of the made notebooks under nbval: {"tagged 2": "SKIPPED (why)", ...}."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(made.parent)]),
        "COLUMNS": "200",
        "XDG_CACHE_HOME": str(made.parent / "empty"),
        "ATTN_DATA": str(made.parent / "data") if data else "",
    }
    plugins = ["-p", "conftest", "-p", f"cuda_{cuda}".lower(), "-p", "no:cacheprovider"]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            *plugins,
            "--nbval",
            "--nbval-current-env",
            "-v",
            "--tb=no",
            *arguments,
        ],
        cwd=made,
        env=environment,
        capture_output=True,
        text=True,
    )
    found = re.findall(r"^(\w+)::ipynb::Cell (\d+) (.*?)\s*(?:\[ *\d+%\])?$", done.stdout, re.MULTILINE)
    assert found, done.stdout + done.stderr
    return {f"{name} {number}": outcome for name, number, outcome in found}


def test_without_cuda_and_data_their_cells_are_skipped_and_the_others_run(made):
    found = nbval(made, cuda=False, data=False)
    assert found["tagged 1"] == "PASSED"
    assert re.match(r"SKIPPED \(gpu cell: needs CUDA", found["tagged 2"])
    assert re.match(r"SKIPPED \(real-data cell: needs the real data", found["tagged 3"])
    assert found["tagged 4"] == "PASSED"
    assert found["failing 1"].startswith("SKIPPED")
    assert found["failing 2"] == "PASSED"
    assert found["changed 1"] == "PASSED"
    assert found["changed 4"] == "FAILED", "a changed output must fail"


def test_with_cuda_and_data_all_cells_run(made):
    found = nbval(made, cuda=True, data=True)
    assert {found[f"tagged {number}"] for number in range(5)} == {"PASSED"}
    assert found["failing 1"] == "FAILED", "a gpu cell that raises must fail where there is CUDA"
    assert found["failing 2"] == "PASSED"


def test_options_overrule_what_is_here(made):
    found = nbval(made, "tagged.ipynb", "--gpu=no", "--real-data=yes", cuda=True, data=False)
    assert found["tagged 2"].startswith("SKIPPED (gpu cell: --gpu no")
    assert found["tagged 3"] == "PASSED"


# The canonicaliser


def write(path: Path, *cells: NotebookNode) -> Path:
    path.parent.mkdir(exist_ok=True)
    nbformat.write(new_notebook(cells=[new_markdown_cell("# Made\n\nText.", id="title"), *cells]), path)
    return path


def test_canonicaliser_puts_in_what_is_common_and_is_idempotent(tmp_path):
    path = write(
        tmp_path / "notebooks" / "01_made.ipynb",
        new_code_cell("import os\nos.getcwd() == os.path.abspath('.')"),
    )
    assert canonicaliser.main(["--check", str(path)]) == 1
    assert canonicaliser.main([str(path)]) == 0
    first = path.read_bytes()
    notebook = read(path)
    assert notebook.cells[0].source.splitlines()[2] == canonicaliser.badge(path)
    assert "/blob/main/notebooks/01_made.ipynb" in notebook.cells[0].source
    assert notebook.cells[1].source == canonicaliser.SETUP
    assert [cell.execution_count for cell in notebook.cells[1:]] == [1, 2]
    assert notebook.metadata.accelerator == "GPU"
    assert notebook.metadata.language_info == {"name": "python"}
    assert canonicaliser.main([str(path)]) == 0
    assert path.read_bytes() == first
    assert canonicaliser.main(["--check", str(path)]) == 0


def test_canonicaliser_gives_lasting_ids_to_cells_that_have_none(tmp_path):
    path = write(tmp_path / "notebooks" / "01_made.ipynb", new_code_cell("a = 1"), new_code_cell("a = 1"))
    raw = json.loads(path.read_text())
    for cell in raw["cells"]:
        del cell["id"]
    made = []
    for _ in range(2):
        path.write_text(json.dumps(raw))
        assert canonicaliser.main(["--no-execute", str(path)]) == 0
        made.append([cell.id for cell in read(path).cells])
    assert made[0] == made[1]
    assert len(set(made[0])) == 4


def test_canonicaliser_keeps_the_last_outputs_of_a_skipped_cell(tmp_path):
    cell = new_code_cell("print('fast')", id="gpu", metadata={"tags": ["gpu"]})
    path = write(tmp_path / "notebooks" / "01_made.ipynb", cell, new_code_cell("print('end')", id="end"))
    assert canonicaliser.main(["--gpu", "yes", str(path)]) == 0
    with_gpu = path.read_bytes()
    assert "fast\n" in read(path).cells[2].outputs[0].text
    assert canonicaliser.main(["--gpu", "no", str(path)]) == 0
    assert path.read_bytes() == with_gpu


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("left = 1\nright = left / 0", "ZeroDivisionError"),
        ("import warnings\nwarnings.warn('careful')", "writes to stderr"),
    ],
)
def test_canonicaliser_leaves_a_failing_notebook_untouched(tmp_path, capsys, source, said):
    path = write(tmp_path / "notebooks" / "01_made.ipynb", new_code_cell(source, id="bad"))
    before = path.read_bytes()
    assert canonicaliser.main([str(path)]) == 1
    message = capsys.readouterr().err
    assert said in message
    assert source.splitlines()[-1] in message
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
