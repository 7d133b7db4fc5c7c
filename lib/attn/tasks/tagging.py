"""Part-of-speech tagging: one label per word, for sentences of a small English grammar.

The same form has several tags: "I saw a saw .", "the duck can duck .", "the light is light .". Neighbours
decide most of them. Two constructions are decided only by words that are FAR_DISTANCE or more away:

    are the friends near the cold lake fish ?           NOUN, because of "are"
    do the friends near the cold lake fish ?            VERB, because of "do"
    they want the walk near the cold lake and fish .    NOUN, because of "the walk"
    they want to walk near the cold lake and fish .     VERB, because of "to walk"

Both readings have the same words in between, as often, so that a window that sees less can but guess. The
sentences are grammatical, if seldom wise. The tags are those of Universal Dependencies (Nivre et al. 2020).
"""

import random
from collections import defaultdict
from dataclasses import dataclass, field

from attn.tasks.labelling import LabelledBatch as LabelledBatch
from attn.tasks.labelling import LabellingTask, word_list

TaggedSentence = tuple[list[str], list[str]]

FAR_DISTANCE = 6  # words from a far word to the nearest word that says what it is


@dataclass
class TaggingTask(LabellingTask[list[str]]):
    """Sentences with one tag for each word. `tags`: the names of the tags, the ids being their places."""

    tags: list[str] = field(default_factory=list)

    @property
    def n_labels(self) -> int:
        """How many different tags there are."""
        return len(self.tags)

    def label_ids(self, label: list[str]) -> list[int]:
        """The tags of one sentence as numbers. ValueError for an unknown tag."""
        if wrong := [tag for tag in label if tag not in self.tags]:
            raise ValueError(f"no tag is called {wrong[0]!r}; the tags are: {', '.join(self.tags)}")
        return [self.tags.index(tag) for tag in label]

    def label_of(self, ids: int | list[int]) -> list[str]:
        """The names of these tags."""
        return [self.tags[i] for i in (ids if isinstance(ids, list) else [ids])]


def ambiguous(task: TaggingTask) -> set[str]:
    """The words that have more than one tag in the training sentences of any tagging task."""
    tags = defaultdict(set)
    for words, labels in task.train:
        for word, tag in zip(words, labels, strict=True):
            tags[word].add(tag)
    return {word for word, seen in tags.items() if len(seen) > 1}


def far(words: list[str]) -> list[int]:
    """The places in a generated sentence whose tag is decided only FAR_DISTANCE or more words away.

    Each sentence has one such place, its last word before the full stop or question mark, or none.
    """
    last = len(words) - 2
    question = last >= FAR_DISTANCE and words[-1] == "?"
    coordination = last > FAR_DISTANCE and words[last - 1] == "and"
    return [last] if question or coordination else []


# The grammar: a symbol is written $NAME, and each of its alternatives is as likely as the others (one that
# stands twice is twice as likely); a word stands with its tag. No rule gives one sentence two readings.
_GRAMMAR = {
    "$NEAR": [
        *["$NP $PAST $OBJECT ./PUNCT"] * 3,
        "$NP rose/VERB ./PUNCT",
        "$NP left/VERB $HOW ./PUNCT",
        *["$NP $AUX $DO $HOW ./PUNCT", "$NP $AUX $DO ./PUNCT"],
        *["$NP $AUX $DO_IT $OBJECT ./PUNCT"] * 2,
        *["$MANY $DO $HOW ./PUNCT", "$MANY $DO like/ADP $OBJECT ./PUNCT", "$MANY $DO to/ADP $OBJECT ./PUNCT"],
        *["$MANY $DO_IT $OBJECT ./PUNCT"] * 3,
        *["$MANY $WANT to/PART $DO ./PUNCT", "$MANY $WANT to/PART $DO_IT $OBJECT ./PUNCT"],
        *["$ONE $DOES_IT $OBJECT ./PUNCT", "$MANY $DO_IT $DET $NOUNS ./PUNCT"],
        *["$ONE $IS $QUALITY ./PUNCT", "$MANY $ARE $QUALITY ./PUNCT"],
        "$DET $NOUN that/PRON $AUX $DO $PAST $OBJECT ./PUNCT",
        *["$ASK_TO_DO $THEY $DO ?/PUNCT", "$ASK_TO_BE they/PRON $NAME ?/PUNCT"],
        *["$MANY $DO and/CCONJ $ACT ./PUNCT", "$MANY $WANT $DET $NOUN and/CCONJ $NAME ./PUNCT"],
    ],
    # Two readings of each: alike but for the first word, or for the two before the place.
    "$FAR": [
        "$ASK_TO_DO $WHO $WHERE $ACT ?/PUNCT",
        "$ASK_TO_BE $WHO $WHERE $NAME ?/PUNCT",
        "$MANY $WANT to/PART $WALK_VERB $WHERE_LONG and/CCONJ $ACT ./PUNCT",
        "$MANY $WANT the/DET $WALK_NOUN $WHERE_LONG and/CCONJ $NAME ./PUNCT",
    ],
    "$NP": ["$ONE", "$MANY"],
    "$ONE": ["he/PRON", "she/PRON", "$OBJECT", "$OBJECT"],
    "$MANY": ["I/PRON", "we/PRON", "they/PRON", "you/PRON", "$DET_MANY $NOUNS"],
    "$THEY": ["they/PRON", "you/PRON", "we/PRON"],
    "$OBJECT": ["$DET $NOUN", "$DET $ADJ $NOUN"],
    "$WHO": ["the/DET $PERSON", "the/DET $ADJ $PERSON"],
    "$WHERE": ["$ADP the/DET $PLACE", "$ADP the/DET $ADJ $PLACE"],
    "$WHERE_LONG": ["$ADP the/DET $ADJ $PLACE", "$ADP the/DET $ADJ $ADJ $PLACE"],
}
# Symbol, tag, words; a symbol may have more than one line. $ACT and $NAME, $WALK_VERB and $WALK_NOUN have the
# same words: what people do, and what things are.
_LEXICON = """
$AUX AUX can will must
$ASK_TO_DO AUX do did can will
$ASK_TO_BE AUX are were
$IS AUX is was
$ARE AUX are were
$DET DET the the a this that
$DET_MANY DET the these
$ADP ADP near in behind
$PERSON NOUN men friends dogs guests
$PLACE NOUN lake park house garden train ship
$NOUN NOUN man dog lake door saw duck can fish light watch park plant train ship rock rose
$NOUN NOUN will cold back cook guard walk swim run
$NOUNS NOUN men dogs friends ducks watches parks plants cooks
$DOES_IT VERB watches parks plants cooks likes
$ADJ ADJ light cold fast hard late back left big red
$QUALITY ADJ light cold fast hard late big
$HOW ADV fast hard late back often
$PAST VERB saw left took found
$WANT VERB want need
$DO VERB duck fish walk run swim work sleep
$DO_IT VERB watch park plant train ship rock light cook guard back can paint like
$WALK_VERB VERB walk swim run
$WALK_NOUN NOUN walk swim run
$ACT VERB fish paint water work help rest play smoke
$NAME NOUN fish paint water work help rest play smoke
"""
for _symbol, _tag, *_words in map(str.split, _LEXICON.strip().splitlines()):
    _GRAMMAR.setdefault(_symbol, []).extend(f"{_word}/{_tag}" for _word in _words)


def load(*, seed: int = 0, train: int = 2_000, test: int = 500, far_share: float = 0.3) -> TaggingTask:
    """Different sentences for training and test, and half as many as for the test for validation.

    `far_share` of them have a word that is decided far away (see `far`). `seed` draws them all. Raises
    ValueError for counts that are too large or too small, or a share outside 0 to 1.
    """
    if not 1 <= train <= 10_000 or not 2 <= test <= 10_000:
        raise ValueError(f"train must be 1 to 10,000 and test 2 to 10,000; given {train:,} and {test:,}")
    if not 0 <= far_share <= 1:
        raise ValueError(f"far_share is a share, 0 to 1; given {far_share}")
    draw = random.Random(seed)
    n = train + test + test // 2
    sentences: dict[tuple[str, ...], list[str]] = {}
    n_far = 0
    while len(sentences) < n:
        # By count rather than by chance: short sentences repeat more often, which must not change the share.
        kind = "$FAR" if n_far < far_share * (len(sentences) + 1) else "$NEAR"
        words, tags = sentence(draw, kind)
        n_far += tuple(words) not in sentences and kind == "$FAR"
        sentences.setdefault(tuple(words), tags)
    made = [(list(words), tags) for words, tags in sentences.items()]
    draw.shuffle(made)
    rest = made[test + test // 2 :]
    return TaggingTask(
        name="tagging",
        words=word_list(words for words, _ in rest),
        train=rest,
        validation=made[test : test + test // 2],
        test=made[:test],
        options={"seed": seed, "train": train, "test": test, "far_share": far_share},
        tags=sorted({tag for _, tags in made for tag in tags}),
    )


def sentence(draw: random.Random, kind: str = "$NEAR") -> TaggedSentence:
    """One sentence that neighbours decide ("$NEAR") or one with a word decided far away ("$FAR")."""
    pairs = [leaf.split("/") for leaf in _grow(draw, kind).split()]
    return [word for word, _ in pairs], [tag for _, tag in pairs]


def _grow(draw: random.Random, symbol: str) -> str:
    if symbol not in _GRAMMAR:
        return symbol
    return " ".join(_grow(draw, part) for part in draw.choice(_GRAMMAR[symbol]).split())
