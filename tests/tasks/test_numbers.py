"""Number words: exact answers, sets that share nothing, and what a user may type."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from num2words import CONVERTER_CLASSES, num2words

from attn.tasks import numbers
from attn.tasks.numbers import NumbersTask, answer, english, load, read
from attn.tasks.vocabulary import UNK, Vocabulary

SMALL = st.integers(0, 9_999) | st.integers(0, 10**15 - 1)


@pytest.fixture(scope="module")
def task() -> NumbersTask:
    return load()


def test_sizes(task: NumbersTask) -> None:
    assert [len(pairs) for pairs in (task.train, task.validation, task.test)] == [8_500, 500, 1_000]
    assert len(task.extra["longer"]) == 500


def test_sets_share_no_number_and_no_text(task: NumbersTask) -> None:
    sets = [task.train, task.validation, task.test, task.extra["longer"]]
    for key in (lambda pair: read(pair[0]), lambda pair: pair[0], lambda pair: pair[1]):
        everything = [key(pair) for pairs in sets for pair in pairs]
        assert len(set(everything)) == len(everything)


def test_numbers_are_where_they_should_be(task: NumbersTask) -> None:
    assert all(read(source) < 10_000 for source, _ in task.train + task.validation + task.test)
    assert all(10_000 <= read(source) < 100_000 for source, _ in task.extra["longer"])


def test_every_target_is_the_exact_answer(task: NumbersTask) -> None:
    for source, target in task.test + task.extra["longer"]:
        assert target == num2words(read(source), lang="de")
    assert answer(742) == "siebenhundertzweiundvierzig"
    assert answer(97, "fr") == "quatre-vingt-dix-sept"


def test_nothing_in_the_held_out_sets_is_unknown(task: NumbersTask) -> None:
    for source, target in task.validation + task.test + task.extra["longer"]:
        assert UNK not in task.source.encode(source)
        assert UNK not in task.target.encode(target)


def test_a_seed_repeats_itself_and_another_one_differs(task: NumbersTask) -> None:
    same, other = load(limit=200, seed=3), load(limit=200, seed=4)
    assert same.train == load(limit=200, seed=3).train
    assert same.to_dict() == load(limit=200, seed=3).to_dict()
    assert set(same.test) != set(other.test)
    assert task.test[0][0] == "six thousand three hundred and eleven"  # the same on every machine


@settings(deadline=None)
@given(SMALL)
def test_read_undoes_every_spelling(number: int) -> None:
    words = num2words(number)
    assert read(words) == read(english(number)) == number
    assert read(words.replace(" and ", " ").replace("-", " ").upper()) == number
    assert read(str(number)) == read(f"{number:,}") == read(f" {number:,} ".replace(",", " ")) == number
    assert english(read(english(number))) == english(number)
    assert not set(english(number)) & set("-,")


@pytest.mark.parametrize(
    ("typed", "number"),
    [
        ("Seven hundred and forty two", 742),
        ("seven hundred and forty-two", 742),
        ("seven hundred forty-two", 742),
        ("  SEVEN   hundred, forty two ", 742),
        ("742", 742),
        ("1,042", 1_042),
        ("1 042", 1_042),
        ("0742", 742),
        ("a hundred", 100),
        ("hundred and one", 101),
        ("a thousand and one", 1_001),
        ("twelve hundred and five", 1_205),
        ("zero", 0),
    ],
)
def test_what_a_user_may_type(task: NumbersTask, typed: str, number: int) -> None:
    assert read(typed) == number
    assert task.prepare(typed) == english(number)


@pytest.mark.parametrize(
    "typed",
    [
        *(
            "",
            "  ",
            "-",
            "and",
            "a",
            "and five",
            "five and",
            "cat",
            "seven cats",
            "minus five",
            "seven point five",
        ),
        *(
            "two three",
            "forty twelve",
            "five forty",
            "zero one",
            "one zero",
            "zero hundred",
            "hundred hundred",
        ),
        *("two hundred five hundred", "two thousand million", "one thousand two thousand"),
        *("1.5", "12,34", "-5", "1e3", "\N{ARABIC-INDIC DIGIT SEVEN}", "1,,000"),
    ],
)
def test_what_is_no_number(typed: str) -> None:
    with pytest.raises(ValueError, match=r'is no number: write "seven hundred and forty-two", or 742'):
        read(typed)


@pytest.mark.parametrize("typed", ["1" + "0" * 15, "9" * 5_000])
def test_too_large_a_number(typed: str) -> None:
    with pytest.raises(ValueError, match="too large: numbers go up to 999,999,999,999,999"):
        read(typed)


WORDS = [*numbers._SMALL, *numbers._LARGE, "and", "a", "cat", "-", ",", "7", "1,000"]


@settings(deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join) | st.text(max_size=10))
def test_any_text_is_a_number_or_a_clear_error(text: str) -> None:
    try:
        number = read(text)
        assert 0 <= number < 10**15
        assert read(english(number)) == number
    except ValueError as error:
        assert "numbers go up to" in str(error) or "is no number" in str(error)  # noqa: PT017


def test_a_word_never_trained_on_is_said_so() -> None:
    small = load(limit=500)
    assert small.prepare("499") == "four hundred and ninety nine"
    with pytest.raises(ValueError, match=r"'2,000' needs a word that no number below 500 has"):
        small.prepare("2,000")


def test_exact_match(task: NumbersTask) -> None:
    pairs = task.test[:4]
    right = [target for _, target in pairs]
    assert task.evaluate(right, pairs) == {"exact_match": 100.0}
    assert task.evaluate([right[0], right[1] + "n", "", right[0]], pairs) == {"exact_match": 25.0}
    with pytest.raises(ValueError, match="given 4 and 3"):
        task.evaluate(right[:3], pairs)
    with pytest.raises(ValueError, match="given 0 and 0"):
        task.evaluate([], [])


@pytest.mark.parametrize("language", sorted(set(CONVERTER_CLASSES) - {"am"}))
def test_every_language_loads_and_its_words_come_back(language: str) -> None:
    task = load(language, limit=60, target_tokens="words")
    assert task.train
    for _, target in task.train + task.extra["longer"][:50]:
        by_words = Vocabulary.build("words", [target])
        assert by_words.decode(by_words.encode(target)) == target


def test_a_language_that_num2words_cannot_finish() -> None:
    with pytest.raises(ValueError, match=r"num2words cannot write .* in 'am'"):
        load("am", limit=2_000)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**12))
def test_german_words_fall_into_parts_only(number: int) -> None:
    text = answer(number, "de")
    parts = Vocabulary("parts", []).words(text)
    assert "".join(parts) == text
    assert all(len(part) > 1 or part == " " for part in parts)


def test_parts_make_the_target_as_short_as_the_source() -> None:
    task = load(limit=1_000, target_tokens="parts")
    assert task.target.words("siebenhundertzweiundvierzig") == ["sieben", "hundert", "zwei", "und", "vierzig"]
    assert len(task.target) < 50


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"language": "xx"}, "num2words knows no language 'xx'; it knows: .*de"),
        ({"limit": 19}, "limit must be 20 to"),
        ({"limit": 10**15}, "limit must be 20 to"),
        ({"train": 0}, "train must be at least 1"),
        ({"target_tokens": "syllables"}, "no vocabulary of kind 'syllables'"),
        ({"source_tokens": "parts"}, 'tokens "parts" are those of German'),
        ({"language": "fr", "target_tokens": "parts"}, 'tokens "parts" are those of German'),
    ],
)
def test_wrong_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(**options)


def test_large_limits_are_sampled_and_train_caps_the_work() -> None:
    task = load(limit=10**9, train=50)
    assert len(task.train) == 50
    assert all(read(source) >= 10**9 for source, _ in task.extra["longer"])


def test_numbers_that_read_alike_are_kept_in_one_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "answer", lambda number, language="de": f"{language} {number // 2}")
    task = load(limit=100)
    targets = [target for _, target in task.train + task.validation + task.test]
    assert len(targets) == len(set(targets)) == 50
