"""Training labellers: what is counted, what is shuffled, and that small models learn."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attn.rivals import WindowMLP
from attn.tasks import load_task
from attn.tasks.labelling import IGNORE, LabelledBatch, word_list
from attn.tasks.sentiment import SentimentTask
from attn.tasks.tagging import TaggingTask
from attn.training import fit_labels, label_accuracy, label_loss, predict_labels, warmup_cosine


class Labeller(nn.Module):
    """Embeddings, a window of three words, logits: of each word, or of the mean over the real words."""

    def __init__(self, n_words: int, n_labels: int, *, pool: bool = False, dropout: float = 0.0):
        super().__init__()
        self.embed = nn.Embedding(n_words, 12)
        self.window = WindowMLP(12, n_labels, 1, 24)
        self.dropout = nn.Dropout(dropout)
        self.pool = pool

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        logits = self.window(self.dropout(self.embed(ids)), mask)
        return logits.sum(dim=1) / mask.sum(dim=1, keepdim=True) if self.pool else logits


@pytest.fixture(scope="module")
def tagging() -> TaggingTask:
    return load_task("tagging", train=300, test=60)


@pytest.fixture(scope="module")
def sentiment() -> SentimentTask:
    return load_task("sentiment", train=300, test=60)


def tagger(task: TaggingTask, *, seed: int = 0, dropout: float = 0.0) -> Labeller:
    torch.manual_seed(seed)
    return Labeller(len(task.words), task.n_labels, dropout=dropout)


def test_a_tagger_learns(tagging: TaggingTask) -> None:
    model = tagger(tagging)
    before = label_accuracy(model, tagging, tagging.validation)
    losses = fit_labels(model, tagging, steps=120, learning_rate=1e-2)
    assert len(losses) == 120
    assert sum(losses[-10:]) < 0.3 * sum(losses[:10])
    assert before < 0.4
    assert label_accuracy(model, tagging, tagging.validation) > 0.85


def test_a_labeller_of_sentences_learns(sentiment: SentimentTask) -> None:
    torch.manual_seed(0)
    model = Labeller(len(sentiment.words), 2, pool=True)
    losses = fit_labels(model, sentiment, steps=150, learning_rate=1e-2, warmup=10)
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    assert label_accuracy(model, sentiment, sentiment.train) > 0.65
    assert set(predict_labels(model, sentiment, sentiment.test)) == {0, 1}


def test_the_seed_alone_decides_the_batches(tagging: TaggingTask) -> None:
    runs = []
    for noise, seed in ((1, 0), (2, 0), (1, 5)):
        model = tagger(tagging)
        torch.manual_seed(noise)
        runs.append(fit_labels(model, tagging, steps=4, seed=seed))
    assert runs[0] == runs[1] != runs[2]


def test_every_epoch_sees_every_sentence_once_in_another_order(tagging: TaggingTask) -> None:
    seen: list[list[int]] = []

    class Spy(Labeller):
        def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
            seen.append([hash(tuple(row[m].tolist())) for row, m in zip(ids, mask, strict=True)])
            return super().forward(ids, mask)

    fit_labels(Spy(len(tagging.words), tagging.n_labels), tagging, steps=20, batch_size=32)
    assert [len(batch) for batch in seen] == [*[32] * 9, 12] * 2
    first, second = ([row for batch in seen[i : i + 10] for row in batch] for i in (0, 10))
    assert sorted(first) == sorted(second)
    assert first != second
    assert len(first) == 300


def test_the_warm_up_is_the_one_of_warmup_cosine(
    tagging: TaggingTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = []
    step = torch.optim.Adam.step

    def spy(self: torch.optim.Adam) -> None:
        rates.append(self.param_groups[0]["lr"])
        step(self)

    monkeypatch.setattr(torch.optim.Adam, "step", spy)
    fit_labels(tagger(tagging), tagging, steps=6, learning_rate=0.5, warmup=2)
    assert rates == pytest.approx([0.5 * warmup_cosine(i, 6, 2) for i in range(1, 7)])
    rates.clear()
    fit_labels(tagger(tagging), tagging, steps=3, learning_rate=0.5)
    assert rates == [0.5] * 3


def test_the_loss_counts_words_and_no_padding(tagging: TaggingTask) -> None:
    batch = tagging.batch(tagging.train[:5])
    logits = torch.randn(*batch.ids.shape, tagging.n_labels, generator=torch.Generator().manual_seed(0))
    by_hand = -torch.stack(
        [
            logits[i, j].log_softmax(dim=-1)[batch.labels[i, j]]
            for i in range(5)
            for j in range(batch.ids.size(1))
            if batch.labels[i, j] != IGNORE
        ]
    ).mean()
    torch.testing.assert_close(label_loss(logits, batch), by_hand)
    longer = LabelledBatch(
        F.pad(batch.ids, (0, 2)), F.pad(batch.mask, (0, 2)), F.pad(batch.labels, (0, 2), value=IGNORE)
    )
    torch.testing.assert_close(label_loss(F.pad(logits, (0, 0, 0, 2), value=3.0), longer), by_hand)


def test_predictions_come_back_in_order_and_as_long_as_their_sentences(tagging: TaggingTask) -> None:
    model = tagger(tagging)
    sentences = tagging.train  # more than one batch of evaluation
    predicted = predict_labels(model, tagging, sentences)
    assert [len(tags) for tags in predicted] == [len(words) for words, _ in sentences]
    assert predicted[::37] == [predict_labels(model, tagging, [words])[0] for words, _ in sentences[::37]]
    right = sum(
        a == b
        for (_, tags), p in zip(sentences, predicted, strict=True)
        for a, b in zip(tags, p, strict=True)
    )
    total = sum(len(words) for words, _ in sentences)
    assert label_accuracy(model, tagging, sentences) == pytest.approx(right / total)


def test_evaluation_is_without_dropout_and_leaves_the_mode(tagging: TaggingTask) -> None:
    model = tagger(tagging, dropout=0.9)
    model.train()
    model.window.eval()
    first = predict_labels(model, tagging, tagging.test)
    assert first == predict_labels(model, tagging, tagging.test)
    assert (model.training, model.dropout.training, model.window.training) == (True, True, False)


def test_errors(tagging: TaggingTask, sentiment: SentimentTask) -> None:
    model = tagger(tagging)
    with pytest.raises(ValueError, match="batch_size must be at least 1; given 0"):
        fit_labels(model, tagging, steps=1, batch_size=0)
    with pytest.raises(ValueError, match="steps must be at least 1"):
        fit_labels(model, tagging, steps=0)
    with pytest.raises(ValueError, match="no sentences"):
        label_accuracy(model, tagging, [])
    with pytest.raises(ValueError, match=r"logits of shape \(2, \d+, 2\) do not fit labels of shape \(2,\)"):
        fit_labels(Labeller(len(sentiment.words), 2), sentiment, steps=1, batch_size=2)
    assert predict_labels(model, tagging, []) == []
    empty = TaggingTask(name="none", words=word_list([]), tags=["X"])
    with pytest.raises(ValueError, match="at least one sentence"):
        fit_labels(model, empty, steps=1)
