"""SideBySide: every run is as it would be alone, in its outputs, its gradients and its training."""

import copy

import pytest
import torch
from torch import nn

from attn import Encoder
from attn.images import ImageCNN, ImageTransformer
from attn.positions import SinusoidalPositions
from attn.training import minimise
from attn.training.side_by_side import SideBySide

RUNS = 3


def models(kind: str, dtype: torch.dtype = torch.float64) -> list[nn.Module]:
    made = []
    for seed in range(RUNS):
        torch.manual_seed(seed)
        model = {
            "transformer": lambda: ImageTransformer(4, 2, 3, pooling="attention"),
            "cnn": lambda: ImageCNN(4, (4, 5), 3, strides=(1, 2)),
            "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 3)),
        }[kind]()
        made.append(model.to(dtype))
    return made


def images(seed: int = 0, batch: int = 5) -> torch.Tensor:
    return torch.rand(RUNS, batch, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


every_kind = pytest.mark.parametrize("kind", ["transformer", "cnn", "linear"])


@every_kind
def test_outputs_and_gradients_are_those_of_each_model_alone(kind):
    alone, x = models(kind), images()
    together = SideBySide(copy.deepcopy(alone))
    out = together(x)
    assert out.shape == (RUNS, 5, 3)
    out.square().sum().backward()
    for run, model in enumerate(alone):
        expected = model(x[run])
        torch.testing.assert_close(out[run], expected, rtol=0, atol=1e-12)
        expected.square().sum().backward()
        for stacked, own in zip(together.parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(stacked.grad[run], own.grad, rtol=0, atol=1e-10)


@every_kind
def test_training_together_is_training_alone(kind):
    alone = models(kind)
    together = SideBySide(copy.deepcopy(alone))
    x = images(1)
    options = {"steps": 20, "learning_rate": 0.01, "clip": None}
    minimise(lambda rng: together(x).square().mean((1, 2)).sum(), together, **options)
    for run, model in enumerate(alone):
        minimise(lambda rng, run=run, model=model: model(x[run]).square().mean(), model, **options)
        trained = together.unstacked(run, models(kind)[0])
        torch.testing.assert_close(trained(x[run]), model(x[run]), rtol=0, atol=1e-8)


def test_the_models_given_stay_as_they_were():
    given = models("linear")
    before = [copy.deepcopy(model.state_dict()) for model in given]
    together = SideBySide(given)
    minimise(lambda rng: together(images()).square().sum(), together, steps=3, clip=None)
    for model, old in zip(given, before, strict=True):
        for name, value in model.state_dict().items():
            assert torch.equal(value, old[name])


def test_training_mode_and_evaluation_mode_reach_the_models():
    together = SideBySide([nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)) for _ in range(2)])
    x = torch.ones(2, 50, 4)
    assert torch.equal(together.eval()(x), together(x))
    assert (together.train()(x) == 0).any()
    assert not (together.eval()(x) == 0).any()


def test_several_inputs_and_a_mask():
    made = []
    for seed in range(2):
        torch.manual_seed(seed)
        made.append(Encoder(1, 8, 2, 16, 0.0).double())
    x = torch.rand(2, 3, 4, 8, dtype=torch.float64)
    mask = torch.ones(2, 4, 4, dtype=torch.bool).tril()
    out = SideBySide(made)(x, mask)
    for run, model in enumerate(made):
        torch.testing.assert_close(out[run], model(x[run], mask[run]), rtol=0, atol=1e-12)


def test_buffers_and_parameters_move_together():
    made = [nn.Sequential(SinusoidalPositions(4, 6), nn.Linear(4, 3)) for _ in range(2)]
    together = SideBySide(made)
    x = torch.rand(2, 5, 6, 4, dtype=torch.float64)
    out = together.double()(x)
    for run, model in enumerate(made):
        torch.testing.assert_close(out[run], model.double()(x[run]), rtol=0, atol=1e-12)
    assert {value.device.type for value in together.to("meta").state_dict(keep_vars=True).values()} == {
        "meta"
    }
    assert {value.device.type for value in together.buffers()} == {"meta"}


def test_models_that_cannot_run_side_by_side():
    with pytest.raises(ValueError, match="got none"):
        SideBySide([])
    with pytest.raises(ValueError, match="same names and shapes"):
        SideBySide([nn.Linear(3, 4), nn.Linear(4, 3)])
