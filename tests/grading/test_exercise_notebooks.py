"""The exercise notebooks: generated, up to date, valid for nbgrader; run blank, half solved and solved."""

import copy
import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbgrader.nbgraderformat import MetadataValidator
from nbgrader.utils import determine_grade, is_grade, is_solution

from attn.grading import load
from attn.grading.exercise import chapter
from tools import exercises as generator

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(path.name for path in (ROOT / "solutions").glob("*.ipynb"))
each = pytest.mark.parametrize("name", NAMES)


def read(folder: str, name: str) -> NotebookNode:
    return nbformat.read(ROOT / folder / name, as_version=4)


def run(notebook: NotebookNode, *, nbgrader: bool, allow_errors: bool = False) -> list[NotebookNode]:
    """Execute a copy of it in a kernel of its own; its code cells afterwards."""
    notebook = copy.deepcopy(notebook)
    environment = {key: value for key, value in os.environ.items() if key != "NBGRADER_EXECUTION"}
    environment |= {"OMP_NUM_THREADS": "1"} | ({"NBGRADER_EXECUTION": "autograde"} if nbgrader else {})
    resources = {"metadata": {"path": str(ROOT / "exercises")}}
    client = NotebookClient(notebook, timeout=120, allow_errors=allow_errors, resources=resources)
    client.execute(env=environment)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(cell: NotebookNode) -> str:
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def marks(cells: list[NotebookNode]) -> dict[str, float]:
    """What nbgrader gives for each check cell."""
    return {cell.metadata.nbgrader.grade_id: determine_grade(cell)[0] for cell in cells if is_grade(cell)}


def test_generated_files_are_up_to_date():
    assert generator.main(["--check"]) == 0


def test_a_stale_file_is_noticed_and_mended(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(generator, "EXERCISES", tmp_path)
    assert generator.main(["--check"]) == 1
    assert generator.main([]) == 0
    assert generator.main(["--check"]) == 0
    stale = tmp_path / NAMES[0]
    stale.write_text(stale.read_text().replace("YOUR CODE HERE", "MY CODE HERE"))
    assert generator.main(["--check"]) == 1
    assert generator.main([]) == 0
    (tmp_path / "99_gone.ipynb").write_text(stale.read_text())
    assert generator.main(["--check"]) == 1
    assert "99_gone.ipynb has no source" in capsys.readouterr().err


def test_wrong_metadata_is_refused():
    notebook = read("solutions", NAMES[0])
    twice = [cell for cell in notebook.cells if is_grade(cell)][:2]
    twice[1].metadata.nbgrader.grade_id = twice[0].metadata.nbgrader.grade_id
    with pytest.raises(ValueError, match=NAMES[0]):
        generator.blank(notebook, ROOT / "exercises" / NAMES[0])


@each
def test_nbgrader_accepts_both(name):
    for folder in ("solutions", "exercises"):
        MetadataValidator().validate_nb(read(folder, name))


@each
def test_nothing_of_a_solution_is_left(name):
    blank = read("exercises", name)
    for cell in blank.cells:
        assert "SOLUTION" not in cell.source
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    answers = [cell.source for cell in blank.cells if is_solution(cell)]
    assert all(source.endswith("# YOUR CODE HERE") for source in answers)


@each
def test_every_exercise_of_the_chapter_is_there_with_its_points_frame_and_hints(name):
    cells = read("solutions", name).cells
    found = []
    for place, cell in enumerate(cells):
        if not is_grade(cell):
            continue
        exercise = load(re.fullmatch(r'check\(\w+, "(.+)"\)', cell.source)[1])
        found.append(exercise)
        text, answer = cells[place - 2], cells[place - 1]
        assert cell.source.startswith(f"check({exercise.name},")
        assert cell.metadata.nbgrader.grade_id == f"check_{exercise.name}"
        assert cell.metadata.nbgrader.points == exercise.points
        assert cell.metadata.nbgrader.locked
        assert answer.metadata.nbgrader.grade_id == exercise.name
        assert is_solution(answer)
        assert not is_grade(answer)
        frame = rf"^\*{exercise.kind}\* · difficulty ●+○* · \d+ minutes$"
        assert re.search(frame, text.source, re.MULTILINE), text.source
        assert 1 <= text.source.count("<details>") <= 3
        assert text.source.count("<details>") == text.source.count("</details>")
    assert [e.id for e in found] == [e.id for e in chapter(name[:2])]


@each
def test_blank_notebook_runs_from_top_to_bottom_and_says_so(name):
    for cell in run(read("exercises", name), nbgrader=False):
        if is_grade(cell):
            assert re.fullmatch(r"\w+: not answered yet \(\d+ points wait for you\)\.\n", printed(cell))
            assert [output.output_type for output in cell.outputs] == ["stream"]
        else:
            assert not cell.outputs


@each
def test_blank_notebook_scores_nothing_with_nbgrader(name):
    assert set(marks(run(read("exercises", name), nbgrader=True, allow_errors=True)).values()) == {0}


@each
def test_solved_notebook_scores_full_marks_with_nbgrader(name):
    # The answers of solutions/, put into the notebook that the learner has.
    blank, solved = read("exercises", name), read("solutions", name)
    answers = {cell.metadata.nbgrader.grade_id: cell.source for cell in solved.cells if is_solution(cell)}
    for cell in blank.cells:
        if is_solution(cell):
            cell.source = answers[cell.metadata.nbgrader.grade_id]
    expected = {f"check_{exercise.name}": exercise.points for exercise in chapter(name[:2])}
    assert marks(run(blank, nbgrader=True)) == expected


def test_half_an_answer_gets_half_the_marks_and_the_rest_still_counts():
    notebook = read("exercises", "01_dot_product_attention.ipynb")
    put = {
        "stable_softmax": "def stable_softmax(s):\n    return s.exp() / s.exp().sum(-1, keepdim=True)",
        "passage_mask": "import os, sys\n\n\ndef passage_mask(p, q):\n    sys.exit(0)",
        "previous_token": "def previous_token(n:\n    return",
    }
    for cell in notebook.cells:
        if is_solution(cell) and cell.metadata.nbgrader.grade_id in put:
            cell.source = put[cell.metadata.nbgrader.grade_id]
    cells = run(notebook, nbgrader=True, allow_errors=True)
    given = marks(cells)
    assert given.pop("check_stable_softmax") == 4
    assert set(given.values()) == {0}
    said = next(printed(cell) for cell in cells if cell.source.startswith("check(stable_softmax"))
    assert "known mistake: the scores go into exp as they are" in said
