"""Every exercise of every chapter: known mistakes are caught and named, right answers pass."""

import pkgutil
import time
from pathlib import Path
from typing import Any

import pytest

from attn.grading import examine, exercises
from attn.grading.checking import VISIBLE_SEED
from attn.grading.exercise import Exercise, Mistake, chapter, load
from attn.grading.self_test import worthless
from attn.progress import concepts

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted(name[2:4] for _, name, _ in pkgutil.iter_modules(exercises.__path__))
ALL = [exercise for number in CHAPTERS for exercise in chapter(number)]
SEEDS = (VISIBLE_SEED, 1, 2)

each = pytest.mark.parametrize("exercise", ALL, ids=lambda exercise: exercise.id)
each_mistake = pytest.mark.parametrize(
    ("exercise", "mistake"),
    [pytest.param(e, m, id=f"{e.id}: {m.name}") for e in ALL for m in e.mistakes],
)


@each_mistake
def test_known_mistake_is_caught_and_named(exercise: Exercise, mistake: Mistake):
    result = examine(exercise, mistake.answer)
    assert result.mistakes == (mistake.name,), result.text
    assert mistake.hint in result.text
    assert (result.status == "right") == mistake.equivalent


@each
def test_known_mistakes_are_caught_and_named_on_other_seeds(exercise: Exercise):
    for mistake in exercise.mistakes:
        result = examine(exercise, mistake.answer, seed=7)
        assert result.mistakes == (mistake.name,), result.text


@each
@pytest.mark.parametrize("seed", SEEDS)
def test_right_answers_get_full_marks_however_written(exercise: Exercise, seed: int):
    for answer in (exercise.reference, *exercise.right):
        result = examine(exercise, answer, seed)
        assert (result.status, result.points) == ("right", exercise.points), result.text
        assert not result.mistakes


@each
def test_blank_answer_scores_nothing_and_is_told_so_kindly(exercise: Exercise):
    def raising(*inputs):
        raise NotImplementedError

    def dots(*inputs): ...

    blanks: list[Any] = [None, ...]
    blanks += [{case.name: ... for case in exercise.cases}, {}] if exercise.holds_values else [raising, dots]
    for answer in blanks:
        result = examine(exercise, answer)
        assert (result.status, result.points) == ("blank", 0)
        assert result.text.startswith(f"{exercise.name}: not answered yet")
        assert "\n" not in result.text


@each
def test_constants_and_right_shapes_alone_earn_nothing(exercise: Exercise):
    for answer in worthless(exercise):
        assert examine(exercise, answer).points == 0


@each
def test_checks_are_quick(exercise: Exercise):
    for answer in (exercise.reference, exercise.mistakes[-1].answer):
        start = time.process_time()
        examine(exercise, answer)
        assert time.process_time() - start < 5


@each
def test_data_is_complete(exercise: Exercise):
    assert len({case.name for case in exercise.cases}) == len(exercise.cases)
    assert len({mistake.name for mistake in exercise.mistakes}) == len(exercise.mistakes) >= 8
    assert len(exercise.right) >= 3
    assert all(mistake.hint.endswith(("?", ".")) for mistake in exercise.mistakes)
    assert load(exercise.id) is exercise


def test_every_kind_is_there():
    kinds = {"predict", "implement", "find the bug", "spot the error", "design"}
    assert {exercise.kind for exercise in ALL} == kinds


@pytest.mark.parametrize("number", CHAPTERS)
def test_a_chapter_practises_every_concept_of_its_lesson(number: str):
    listed = {concept.id for concept in concepts(ROOT) if concept.chapter == number}
    practised = {concept for exercise in chapter(number) for concept in exercise.concepts}
    assert listed == practised
    assert len(chapter(number)) >= 3
    assert len({exercise.kind for exercise in chapter(number)}) >= 4


def test_no_two_exercises_have_the_same_name():
    assert len({exercise.name for exercise in ALL}) == len(ALL)  # answers are found by it


def test_unknown_exercises_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="chapter '99'"):
        load("99.attention")
    with pytest.raises(ValueError, match=r"01\.stable_softmax"):
        load("01.softmax")
