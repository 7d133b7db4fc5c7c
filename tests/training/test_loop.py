"""fit(): it learns, it is repeatable, and a stopped run goes on as if it had never stopped."""

import signal
from functools import partial

import pytest
import torch
from torch import nn

from attn.rivals import Seq2Seq
from attn.tasks import load_task
from attn.training import (
    CheckpointError,
    TrainingDiverged,
    fit,
    load_translator,
    mean_loss,
    warmup_cosine,
    warmup_inverse_sqrt,
)
from attn.training.checkpoint import load
from attn.transformer import Transformer

# 85 training pairs: six batches of 16, the last of them with 5.
SHORT = {"batch_size": 16, "progress": False}


@pytest.fixture(scope="module")
def task():
    return load_task("numbers", limit=100)


def _model(task, seed=0, **options):
    torch.manual_seed(seed)
    options = {"d_model": 16, "n_heads": 2, "d_ff": 32, "norm": "pre", "dropout": 0.1} | options
    return Transformer(len(task.source), len(task.target), n_encoder_layers=1, n_decoder_layers=1, **options)


def _weights(model):
    return nn.utils.parameters_to_vector(model.parameters()).detach()


def _stop_at(step, total, how=None):
    """A schedule that, when asked for the rate of `step`, stops the run as Ctrl-C would."""

    def schedule(now):
        if now == step:
            signal.raise_signal(signal.SIGINT) if how is None else how()
        return warmup_cosine(now, total, max(1, total // 10))

    return schedule


def test_it_learns(task):
    model = _model(task, d_model=32)
    history = fit(model, task, steps=60, learning_rate=5e-3, label_smoothing=0.0, **SHORT)
    assert history.losses[-1] < 0.5 * history.losses[0]
    [(step, loss)] = history.validation
    assert step == 60
    assert loss == pytest.approx(mean_loss(model, task, task.validation), rel=1e-5)
    assert not model.training


def test_the_first_loss_is_near_equal_odds(task):
    history = fit(_model(task), task, steps=1, **SHORT)
    assert history.losses[0] == pytest.approx(torch.tensor(float(len(task.target))).log().item(), rel=0.3)


def test_history_says_what_happened(task):
    history = fit(_model(task), task, steps=5, validate_every=2, learning_rate=1, clip=1, **SHORT)
    assert history.steps == [1, 2, 3, 4, 5]
    assert history.learning_rates == pytest.approx([warmup_cosine(step, 5, 1) for step in history.steps])
    assert [step for step, _ in history.validation] == [2, 4, 5]
    paper = partial(warmup_inverse_sqrt, d_model=16, warmup=3)
    history = fit(_model(task), task, steps=5, learning_rate=1, schedule=paper, **SHORT)
    assert history.learning_rates == [paper(step) for step in history.steps]


def test_epochs_are_whole_passes(task):
    assert fit(_model(task), task, epochs=2, **SHORT).steps[-1] == 12


def test_every_sentence_once_in_an_epoch_in_another_order_each(task):
    class Seen(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(len(task.target)))
            self.sources = []

        def forward(self, source, target):
            self.sources += [tuple(row[row != 0].tolist()) for row in source]
            return self.weight.expand(*target.shape, -1)

    model = Seen()
    task_without_validation = load_task("numbers", limit=100)
    task_without_validation.validation = []
    fit(model, task_without_validation, epochs=2, **SHORT)
    first, second = model.sources[:85], model.sources[85:]
    assert sorted(first) == sorted(second) == sorted(tuple(task.source.encode(s)) for s, _ in task.train)
    assert first != second


def test_same_seed_same_curve_other_seed_other_curve(task):
    curves = [fit(_model(task), task, steps=4, seed=seed, **SHORT).losses for seed in (1, 1, 2)]
    assert curves[0] == curves[1]
    assert curves[0] != curves[2]


def test_dropout_is_on_and_differs_from_step_to_step(task):
    model = _model(task, dropout=0.5)
    seen = []
    model.stacks.encoder.layers[0].feed_forward.register_forward_hook(
        lambda module, inputs, output: seen.append(module.training)
    )
    fit(model, task, steps=2, **SHORT)
    assert seen[:2] == [True, True]
    frozen = partial(fit, task=task, steps=1, learning_rate=1e-9, **SHORT)
    assert frozen(_model(task, dropout=0.5)).losses != frozen(_model(task, dropout=0.0)).losses


def test_global_random_numbers_are_left_alone(task):
    model = _model(task)
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    fit(model, task, steps=2, **SHORT)
    assert torch.equal(torch.rand(3), wanted)


def test_gradients_are_clipped(task):
    model = _model(task)
    fit(model, task, steps=2, clip=1e-3, **SHORT)
    length = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    assert length.item() == pytest.approx(1e-3, rel=1e-3)


def test_bf16_is_near_fp32(task):
    losses = [fit(_model(task), task, steps=3, precision=p, **SHORT).losses for p in ("fp32", "bf16")]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_progress_bar_and_silence(task, capsys):
    fit(_model(task), task, steps=2, batch_size=16)
    assert "0/2" in capsys.readouterr().err
    fit(_model(task), task, steps=2, **SHORT)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [3, 6, 8])
def test_a_stopped_run_goes_on_as_if_it_had_never_stopped(task, tmp_path, step, number):
    """Stopped in an epoch, at its end, in the next: dropout, order of the data, validation must all agree."""
    settings = {"steps": 10, "validate_every": 4, **SHORT}
    whole = _model(task)
    wanted = fit(whole, task, **settings)
    file = tmp_path / "c"
    stop = _stop_at(step, 10, partial(signal.raise_signal, number))
    with pytest.raises(KeyboardInterrupt, match=r"after step \d of 10"):
        fit(_model(task), task, schedule=stop, checkpoint=file, **settings)
    assert len(load(file).about["history"]["steps"]) in (step, step + 1)
    resumed = _model(task, seed=9)  # its weights must come from the file
    history = fit(resumed, task, checkpoint=file, resume=True, **settings)
    assert history == wanted
    assert torch.equal(_weights(resumed), _weights(whole))


def test_a_crashed_run_goes_on_from_its_last_checkpoint(task, tmp_path):
    def crash():
        raise MemoryError

    settings = {"steps": 10, "checkpoint_every": 3, "checkpoint": tmp_path / "c", **SHORT}
    wanted = fit(_model(task), task, steps=10, **SHORT)
    with pytest.raises(MemoryError):
        fit(_model(task), task, schedule=_stop_at(8, 10, crash), **settings)
    assert len(load(tmp_path / "c").about["history"]["steps"]) == 6
    assert fit(_model(task, seed=9), task, resume=True, **settings) == wanted


def test_signals_are_as_before_afterwards(task):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    fit(_model(task), task, steps=1, **SHORT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_second_interrupt_does_not_wait(task):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    model = _model(task)
    before = _weights(model).clone()
    with pytest.raises(KeyboardInterrupt):
        fit(model, task, steps=3, schedule=_stop_at(1, 3, twice), **SHORT)
    assert torch.equal(_weights(model), before)


def test_a_finished_run_can_be_made_longer(task, tmp_path):
    short = fit(_model(task), task, steps=3, checkpoint=tmp_path / "c", **SHORT)
    again = partial(fit, _model(task, seed=9), task, checkpoint=tmp_path / "c", resume=True, **SHORT)
    assert again(steps=3) == short
    longer = again(steps=5)
    assert longer.steps == [1, 2, 3, 4, 5]
    assert longer.losses[:3] == short.losses


def test_shared_embeddings_survive_a_checkpoint(task, tmp_path):
    file, settings = tmp_path / "c", {"steps": 4, **SHORT}
    wanted = fit(_model(task, share_embeddings="target"), task, **settings)
    with pytest.raises(KeyboardInterrupt):
        fit(
            _model(task, share_embeddings="target"),
            task,
            checkpoint=file,
            schedule=_stop_at(2, 4),
            **settings,
        )
    model = _model(task, seed=9, share_embeddings="target")
    assert fit(model, task, checkpoint=file, resume=True, **settings) == wanted
    translator, _ = load_translator(file)
    assert torch.equal(_weights(translator), _weights(model))
    assert translator.to_logits.weight is translator.embed_target.tokens.weight


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("attention", [True, False])
def test_a_recurrent_model_is_trained_and_resumed_alike(task, attention, precision, tmp_path):
    def model(seed=0):
        torch.manual_seed(seed)
        sizes = {"d_embedding": 16, "d_hidden": 16, "attention": attention, "dropout": 0.1}
        return Seq2Seq(len(task.source), len(task.target), **sizes)

    file, settings = tmp_path / "c", {"steps": 30, "learning_rate": 2e-2, "precision": precision, **SHORT}
    whole = model()
    wanted = fit(whole, task, **settings)
    assert wanted.losses[-1] < 0.8 * wanted.losses[0]
    with pytest.raises(KeyboardInterrupt):
        fit(model(), task, checkpoint=file, schedule=_stop_at(12, 30), **settings)
    resumed = model(seed=9)
    assert fit(resumed, task, checkpoint=file, resume=True, **settings) == wanted
    assert torch.equal(_weights(resumed), _weights(whole))


def test_not_a_number_stops_the_run_and_keeps_the_weights(task, tmp_path):
    model = _model(task)
    calls = []

    def poison(module, inputs, output):
        calls.append(1)
        return output * float("nan") if len(calls) == 3 else output

    model.register_forward_hook(poison)
    with pytest.raises(
        TrainingDiverged, match=r"loss of step 3 is nan \(learning rate .*lower learning rate"
    ):
        fit(model, task, steps=9, checkpoint=tmp_path / "c", checkpoint_every=2, **SHORT)
    assert _weights(model).isfinite().all()
    assert torch.equal(_weights(load_translator(tmp_path / "c")[0]), _weights(model))


def test_an_infinite_gradient_stops_the_run(task):
    model = _model(task)
    model.to_logits.weight.register_hook(lambda gradient: gradient * float("inf"))
    before = _weights(model).clone()
    with pytest.raises(TrainingDiverged, match="gradient of step 1"):
        fit(model, task, steps=2, **SHORT)
    assert torch.equal(_weights(model), before)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "steps or epochs"),
        ({"steps": 1, "epochs": 1}, "steps or epochs"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"epochs": -1}, "epochs must be at least 1"),
        ({"steps": 1, "batch_size": 0}, "batch_size must be at least 1"),
        ({"steps": 1, "checkpoint_every": 0}, "checkpoint_every must be"),
        ({"steps": 1, "validate_every": 0}, "validate_every must be"),
        ({"steps": 1, "learning_rate": 0}, "learning_rate must be more than 0"),
        ({"steps": 1, "learning_rate": float("nan")}, "learning_rate must be more than 0"),
        ({"steps": 1, "clip": 0}, "clip must be more than 0"),
        ({"steps": 1, "label_smoothing": 1.0}, "label_smoothing must be"),
        ({"steps": 1, "device": "abacus"}, "device 'abacus' is not here"),
        ({"steps": 1, "resume": True}, "needs checkpoint="),
    ],
)
def test_settings_that_make_no_sense(task, settings, message):
    with pytest.raises(ValueError, match=message):
        fit(_model(task), task, **{"progress": False, **settings})


def test_a_task_without_sentences(task, tmp_path):
    fit(_model(task), task, steps=1, checkpoint=tmp_path / "c", **SHORT)
    model, restored = load_translator(tmp_path / "c")
    with pytest.raises(ValueError, match="no training pairs"):
        fit(model, restored, steps=1, **SHORT)


def test_what_cannot_be_resumed(task, tmp_path):
    file = tmp_path / "c"
    again = partial(fit, task=task, steps=2, checkpoint=file, resume=True)
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        again(_model(task), **SHORT)
    fit(_model(task), task, steps=2, checkpoint=file, **SHORT)
    with pytest.raises(ValueError, match="had batch_size=16, this one has batch_size=17"):
        again(_model(task), batch_size=17, progress=False)
    with pytest.raises(CheckpointError, match="another model"):
        again(_model(task, d_model=32), **SHORT)
    with pytest.raises(CheckpointError, match="another task"):
        again(_model(task), task=load_task("numbers", limit=100, target_tokens="characters", seed=1), **SHORT)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="not a whole"):
        again(_model(task), **SHORT)
