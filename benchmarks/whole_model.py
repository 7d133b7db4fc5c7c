"""The whole Transformer beside `nn.Transformer` with the same weights: a training step, greedy decoding."""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from attn.convert import to_torch
from attn.decoding import greedy_decode
from attn.masks import causal, to_torch_mha
from attn.training.loss import token_loss
from attn.transformer import Transformer
from benchmarks.pairs import Ratio, compare, must_equal


class TorchTransformer(nn.Module):
    """`nn.Transformer` between copies of our embeddings and projection: what torch.nn alone can do."""

    def __init__(self, ours: Transformer):
        super().__init__()
        twin = Transformer(**ours.config)
        twin.load_state_dict(ours.state_dict())
        self.embed_source, self.embed_target, self.to_logits = (
            twin.embed_source,
            twin.embed_target,
            twin.to_logits,
        )
        self.encoder, self.decoder = to_torch(ours.stacks.encoder), to_torch(ours.stacks.decoder)
        self.pad = ours.pad
        self.train(ours.training)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        return self.to_logits(self.decode(target, self.encode(source), source))

    def encode(self, source: Tensor) -> Tensor:
        return self.encoder(self.embed_source(source), src_key_padding_mask=source == self.pad)

    def decode(self, target: Tensor, memory: Tensor, source: Tensor) -> Tensor:
        return self.decoder(
            self.embed_target(target),
            memory,
            tgt_mask=to_torch_mha(causal(target.size(1))),
            memory_key_padding_mask=source == self.pad,
            tgt_is_causal=True,
        )

    @torch.no_grad()
    def greedy(self, source: Tensor, length: int, bos: int) -> Tensor:
        """Greedy decoding as usually written with nn.Transformer: the whole prefix again at every step."""
        memory = self.encode(source)
        tokens = source.new_full((source.size(0), 1), bos)
        for _ in range(length):
            logits = self.to_logits(self.decode(tokens, memory, source)[:, -1])
            logits[:, [self.pad, bos]] = -torch.inf
            tokens = torch.cat([tokens, logits.argmax(dim=-1, keepdim=True)], dim=1)
        return tokens[:, 1:]


def _model(vocabulary: int, d_model: int, dropout: float) -> Transformer:
    torch.manual_seed(0)
    # One dropout in all three places, so that torch's layers can be the same.
    return Transformer(
        vocabulary,
        vocabulary,
        d_model=d_model,
        n_heads=4,
        n_encoder_layers=3,
        n_decoder_layers=3,
        d_ff=4 * d_model,
        dropout=dropout,
        attention_dropout=dropout,
        activation_dropout=dropout,
        norm="pre",
    )


def training_step(size: str = "full") -> list[Ratio]:
    """Forward, loss, backward, clipping and a fused Adam step: d_model 256, 4 heads, 3+3 layers, d_ff 1024,
    vocabulary 8000, batch 64, lengths 24/24. Without dropout both sides compute the same. With it each has
    its own: torch.nn also drops attention weights and activations, the paper (and ours) does not.
    """
    vocabulary, d_model, batch, length = (8000, 256, 64, 24) if size == "full" else (50, 16, 4, 8)
    source, target = _sentences(vocabulary, batch, length), _sentences(vocabulary, batch, length + 1)
    results = []
    for dropout in (0.0, 0.1):
        ours = _model(vocabulary, d_model, dropout).train()
        theirs = TorchTransformer(ours)
        if dropout == 0.0:
            must_equal(ours(source, target[:, :-1]), theirs(source, target[:, :-1]))
        else:  # the same places as the paper
            torch.manual_seed(0)
            ours = Transformer(**{**ours.config, "attention_dropout": 0.0, "activation_dropout": 0.0}).train()
        steps = [_step(model, source, target) for model in (ours, theirs)]
        name = f"training step, dropout {dropout} / nn.Transformer"
        pairs, seconds = (9, 1.0) if size == "full" else (3, 0.0)
        results.append(compare(name, *steps, pairs=pairs, seconds=seconds, bar=1.0))
    return results


def _step(model: nn.Module, source: Tensor, target: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        loss, tokens = token_loss(model(source, target[:, :-1]), target[:, 1:], label_smoothing=0.1)
        (loss / tokens).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def _sentences(vocabulary: int, batch: int, length: int) -> Tensor:
    """Random tokens, the shorter half of the batch padded by a quarter."""
    tokens = torch.randint(3, vocabulary, (batch, length), generator=torch.Generator().manual_seed(0))
    tokens[batch // 2 :, length - length // 4 :] = 0
    return tokens


def decoding(size: str = "full") -> list[Ratio]:
    """Greedy decoding of 64 sentences, 64 tokens each, over the cache, beside nn.Transformer with the whole
    prefix at every step.
    """
    vocabulary, d_model, batch, length = (8000, 256, 64, 64) if size == "full" else (50, 16, 4, 6)
    ours = _model(vocabulary, d_model, 0.0).eval()
    ours.eos = -1  # no sentence ends early: both write all tokens
    theirs = TorchTransformer(ours).eval()
    source = _sentences(vocabulary, batch, length)
    tokens = greedy_decode(ours, source, max_length=length).tokens
    assert torch.equal(tokens, theirs.greedy(source, length, ours.bos)), (
        "the two sides decode different tokens"
    )
    return [
        compare(
            f"greedy decoding {batch} x {length} / nn.Transformer",
            lambda: greedy_decode(ours, source, max_length=length),
            lambda: theirs.greedy(source, length, ours.bos),
            pairs=7 if size == "full" else 3,
            seconds=0.0,
            bar=1 / 9,
        )
    ]


def decoding_exponent(lengths: tuple[int, ...] = (16, 32, 64, 128), repeats: int = 5) -> float:
    """p in time = c · length^p of cached greedy decoding (CPU time, 64 sentences): 1 = each token costs the
    same.
    """
    model = _model(8000, 256, 0.0).eval()
    model.eos = -1
    source = _sentences(8000, 64, 24)
    spent: dict[int, list[float]] = {length: [] for length in lengths}
    for _ in range(repeats):
        for length in lengths:
            start = time.process_time()
            greedy_decode(model, source, max_length=length)
            spent[length].append(time.process_time() - start)
    points = torch.tensor([[math.log(length), math.log(min(times))] for length, times in spent.items()])
    centred = points - points.mean(dim=0)
    return float((centred[:, 0] @ centred[:, 1]) / (centred[:, 0] @ centred[:, 0]))
