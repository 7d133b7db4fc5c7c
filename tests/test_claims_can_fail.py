"""Every claim assertion can fail: the library is broken in a known way, and the claim's cell must notice.

Each `Break` puts one bug into a copy of attn (the numbers name the known mistakes of the course's list). For
every claim in `seen_by` the notebook's claim cell runs over that copy, after those statements of earlier
cells that it needs, and must fail with AssertionError. Assertions of earlier cells are taken out: the claim's
own cell must see the bug. The controls run the same statements over the unbroken library: all must pass.

A claim is named by its id; where a lesson has several cells for it, " @ " and a piece of text tell them
apart. New cases: one more `Break` in `BREAKS`, or one more claim in a `seen_by`.
"""

import ast
import contextlib
import importlib
import io
import multiprocessing
import os
import shutil
import symtable
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
LESSONS = {path.stem[:2]: path for path in sorted(ROOT.glob("notebooks/*.ipynb"))}
CLAIM = "the claim's cell"
SECONDS = 120  # for one claim; most take a hundredth of one
pytestmark = pytest.mark.skipif(
    "forkserver" not in multiprocessing.get_all_start_methods(), reason="processes cannot be forked here"
)
LEFT_OUT = {"gpu", "real-data"}
PRELOADED = ["torch", "torch._dynamo", "sympy", "matplotlib.pyplot", "nbformat", "pytest"]  # never attn


@dataclass(frozen=True)
class Break:
    """One bug: in `file` of lib/attn, or in a lesson's code cells ("notebook 01"), `old` becomes `new`."""

    name: str  # with the numbers of the known mistakes that it is an example of
    file: str
    old: str
    new: str
    seen_by: dict[str, list[str]]  # lesson number → claims, "id" or "id @ text in the cell"


BREAKS = [
    # Scores
    Break(
        "1 no scale",
        "scores.py",
        "return (query * (1.0 / math.sqrt(query.size(-1)))) @ key.transpose(-2, -1)",
        "return query @ key.transpose(-2, -1)",
        {
            "01": ["score-normalize-sum @ pytorch =", "row-column"],
            "04": ["output-projection", "equals-torch-mha"],
        },
    ),
    Break(
        "2 divided by d",
        "scores.py",
        "(query * (1.0 / math.sqrt(query.size(-1))))",
        "(query / query.size(-1))",
        {"01": ["row-column"], "03": ["mask-polarity @ turned over"]},
    ),
    Break(
        "3 divided by the root of d_model",
        "multihead.py",
        "        output, weights = attend(\n            q,\n",
        "        output, weights = attend(\n            q / self.n_heads**0.5,\n",
        {"04": ["loop-equals-batched", "equals-torch-mha"], "03": ["mask-polarity @ turned over"]},
    ),
    Break(
        "1 dot products where the scaled ones belong, fused",
        "core.py",
        "{scaled_dot_product: None, dot_product: 1.0}",
        "{scaled_dot_product: 1.0, dot_product: 1.0}",
        {"09": ["equals-torch-transformer"]},
    ),
    # Normalizers
    Break(
        "4 softmax over the queries",
        "normalizers.py",
        "return torch.softmax(scores, dim=-1)",
        "return torch.softmax(scores, dim=-2)",
        {
            "01": ["self-vs-cross @ aligned, read", "self-vs-cross @ animal ="],
            "03": ["mask-algebra @ batch_tokens"],
            "09": ["three-attentions @ W_q, W_k, W_v"],
        },
    ),
    Break(
        "5 softmax over axis 1",
        "normalizers.py",
        "return torch.softmax(scores, dim=-1)",
        "return torch.softmax(scores, dim=1)",
        {"04": ["loop-equals-batched"], "01": ["score-normalize-sum @ pytorch ="]},
    ),
    Break(
        "10 softmax without subtracting the maximum",
        "normalizers.py",
        "return torch.softmax(scores, dim=-1)",
        "return scores.exp() / scores.exp().sum(-1, keepdim=True)",
        {"01": ["stable-softmax"]},
    ),
    Break(
        "11 a mask that is too weak",
        "core.py",
        "scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)",
        "scores = scores.masked_fill(~mask, -1e4)",
        {"03": ["no-leak @ faint ="]},
    ),
    # attend
    Break(
        "8 values replaced by keys",
        "core.py",
        "F.dropout(weights, dropout) @ value, weights",
        "F.dropout(weights, dropout) @ key, weights",
        {"01": ["kv-invariance"], "03": ["mask-algebra @ avg_pool2d"], "04": ["equals-torch-mha"]},
    ),
    Break(
        "keys sorted, their values not",
        "core.py",
        "    scores = score(query, key)\n",
        "    scores = score(query, key.sort(dim=-2).values)\n",
        {"01": ["kv-invariance", "self-equivariance"]},
    ),
    Break(
        "16 mask after softmax",
        "core.py",
        "        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)\n"
        "        weights = normalize(scores).masked_fill(~mask.any(dim=-1, keepdim=True), 0.0)\n",
        "        weights = normalize(scores).masked_fill(~mask, 0.0)\n",
        {
            "03": [
                "mask-algebra @ batch_tokens",
                "mask-algebra @ on_queries",
                "no-leak @ of_source =",
            ]
        },
    ),
    Break(
        "17 masked scores set to 0",
        "core.py",
        "torch.finfo(scores.dtype).min)\n",
        "0.0)\n",
        {"03": ["mask-algebra @ alone, _ = attend(query", "no-leak @ from_lengths"]},
    ),
    Break(
        "19 mask added as 0 and 1",
        "core.py",
        "scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)",
        "scores = scores + mask.to(scores.dtype)",
        {"03": ["mask-algebra @ avg_pool2d", "mask-polarity @ additive ="]},
    ),
    Break(
        "30 masked_fill not assigned",
        "core.py",
        "scores = scores.masked_fill(",
        "scores.masked_fill(",
        {"03": ["mask-algebra @ alone, _ = attend(query", "mask-algebra @ per_layer"]},
    ),
    Break(
        "20 polarity inverted in attend",
        "core.py",
        "scores.masked_fill(~mask,",
        "scores.masked_fill(mask,",
        {"03": ["mask-polarity @ additive =", "mask-algebra @ batch_tokens"]},
    ),
    Break(
        "29 an empty row looks everywhere",
        "core.py",
        "weights = normalize(scores).masked_fill(~mask.any(dim=-1, keepdim=True), 0.0)",
        "weights = normalize(scores)",
        {
            "03": ["empty-row @ leaves =", 'empty-row @ found["attend"]'],
            "06": ["cnn-special-case @ tried = 0"],
        },
    ),
    Break(
        "29 an empty row is nan",
        "core.py",
        "        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)\n"
        "        weights = normalize(scores).masked_fill(~mask.any(dim=-1, keepdim=True), 0.0)\n",
        "        weights = normalize(scores.masked_fill(~mask, -torch.inf))\n",
        {"03": ["empty-row @ leaves ="]},
    ),
    Break(
        "29 an empty row looks everywhere, fused",
        "core.py",
        "return output if mask is None else output.masked_fill(empty, 0.0)",
        "return output",
        {"03": ["empty-row @ leaves ="]},
    ),
    # Masks
    Break(
        "20 the polarity of nn.MultiheadAttention not turned over",
        "masks.py",
        "return ~mask",
        "return mask.clone()",
        {
            "03": ["mask-polarity @ turned over"],
            "04": ["equals-torch-mha"],
            "09": ["equals-torch-transformer"],
        },
    ),
    Break(
        "21 causal too loose",
        "masks.py",
        "return relative_positions(queries, keys, device=device) <= 0",
        "return relative_positions(queries, keys, device=device) <= 1",
        {
            "03": ["mask-algebra @ adjacency[b, a]", "no-leak @ blind =", "no-leak @ untrained ="],
            "09": ["masked-decoder @ one_by_one"],
        },
    ),
    Break(
        "22 causal too strict",
        "masks.py",
        "return relative_positions(queries, keys, device=device) <= 0",
        "return relative_positions(queries, keys, device=device) < 0",
        {"03": ["no-leak @ of_source ="], "09": ["masked-decoder @ one_by_one"]},
    ),
    Break(
        "23 triu for tril",
        "masks.py",
        "return relative_positions(queries, keys, device=device) <= 0",
        "return relative_positions(queries, keys, device=device) >= 0",
        {
            "03": ["mask-algebra @ adjacency[b, a]", "no-leak @ untrained ="],
            "09": ["masked-decoder @ one_by_one"],
        },
    ),
    Break(
        "the first query lines up with the first key",
        "masks.py",
        "at_query = torch.arange(keys - queries, keys, device=device)",
        "at_query = torch.arange(queries, device=device)",
        {"03": ["mask-algebra @ torch_newest"]},
    ),
    Break(
        "26 padding on the query axis",
        "masks.py",
        "return (tokens != pad)[:, None, None, :]",
        "return (tokens != pad)[:, None, :, None]",
        {"03": ["mask-algebra @ adjacency[b, a]"]},
    ),
    Break(
        "20 polarity of padding inverted",
        "masks.py",
        "return (tokens != pad)[:, None, None, :]",
        "return (tokens == pad)[:, None, None, :]",
        {"03": ["mask-algebra @ allow_last", "mask-algebra @ adjacency[b, a]"]},
    ),
    Break(
        "a window one too wide",
        "masks.py",
        "(offset >= -before)",
        "(offset >= -before - 1)",
        {"03": ["mask-algebra @ per_layer", "mask-algebra @ avg_pool2d"]},
    ),
    Break(
        "edges in one direction only",
        "masks.py",
        "mask = mask | mask.T",
        "mask = mask.clone()",
        {"03": ["mask-algebra @ per_layer"]},
    ),
    # Heads
    Break(
        "36 heads split by a view",
        "multihead.py",
        "return heads.movedim(-3, 0).transpose(-3, -2).unbind(0)",
        "return heads.movedim(-3, 0).reshape(-1, len(x), self.n_heads, x.size(-2), self.d_k).unbind(0)",
        {
            "03": ["no-leak @ of_source ="],
            "04": ["loop-equals-batched", "equals-torch-mha"],
            "08": ["encoder-equals-torch"],
        },
    ),
    Break(
        "37 heads merged by a view",
        "multihead.py",
        "output.transpose(-3, -2).flatten(-2)",
        "output.reshape(query.shape)",
        {"03": ["no-leak @ from_lengths"], "04": ["loop-equals-batched"], "09": ["masked-decoder @ mode()"]},
    ),
    Break(
        "39 W_o forgotten",
        "multihead.py",
        "return self.W_o(output.transpose(-3, -2).flatten(-2)), weights",
        "return output.transpose(-3, -2).flatten(-2), weights",
        {"04": ["loop-equals-batched"], "09": ["three-attentions @ deaf"]},
    ),
    Break(
        "40 all heads on one slice",
        "multihead.py",
        "heads = projected.unflatten(-1, (last - first, self.n_heads, self.d_k))",
        "heads = projected.unflatten(-1, (last - first, self.n_heads, self.d_k))\n"
        "        heads = heads[..., :1, :].expand_as(heads)",
        {"04": ["loop-equals-batched", "equals-torch-mha"], "09": ["three-attentions @ W_q, W_k, W_v"]},
    ),
    Break(
        "46 every projection for all heads, used or not",
        "multihead.py",
        "projected = F.linear(x, self.W_qkv.weight[rows], None if bias is None else bias[rows])",
        "projected = torch.cat([self.W_qkv(x)[..., rows] for _ in range(self.n_heads)])[: len(x)]",
        {"04": ["heads-cost"]},
    ),
    Break(
        "43 keys and values of the neighbour in the batch",
        "multihead.py",
        "        output, weights = attend(\n            q,\n            k,\n            v,\n",
        "        output, weights = attend(\n            q,\n            k.flip(0),\n            v.flip(0),\n",
        {"03": ["no-leak @ from_lengths", "no-leak @ of_source ="]},
    ),
    # Layers and stacks
    Break(
        "24 no causal mask in the decoder",
        "layers.py",
        "causal=True, need_weights=False, cache=own",
        "causal=False, need_weights=False, cache=own",
        {
            "03": ["no-leak @ of_source ="],
            "09": ["masked-decoder @ mode()", "masked-decoder @ one_by_one", "equals-torch-transformer"],
        },
    ),
    Break(
        "70 cross-attention without the encoder",
        "layers.py",
        "self.cross_attention(x, memory, mask=memory_mask, need_weights=False, cache=cross)",
        "self.cross_attention(x, x, causal=True, need_weights=False, cache=cross)",
        {"09": ["three-attentions @ deaf", "equals-torch-transformer"]},
    ),
    Break(
        "every decoder layer reads another memory",
        "transformer.py",
        "x = layer(x, memory, mask, memory_mask,",
        "x = layer(x, memory + i * (caches is None), mask, memory_mask,",
        {"09": ["three-attentions @ from_encoder"]},
    ),
    Break(
        "72 the encoder unused",
        "transformer.py",
        "self.encoder(source, source_mask), target_mask",
        "source, target_mask",
        {"09": ["equals-torch-transformer"]},
    ),
    Break(
        "27 no padding mask in cross-attention",
        "transformer.py",
        "self.encode(source), masks.padding(source, self.pad))",
        "self.encode(source), masks.padding(source, -1))",
        {"09": ["three-attentions @ W_q, W_k, W_v"]},
    ),
    Break(
        "27 no padding mask in the encoder",
        "transformer.py",
        "self.encoder(source, source_mask), target_mask",
        "self.encoder(source), target_mask",
        {"09": ["equals-torch-transformer"]},
    ),
    Break(
        "64 normalized over the sequence",
        "layers.py",
        "return self.layer_norm(x + self.dropout(sublayer(x)))",
        "x = x + self.dropout(sublayer(x))\n"
        "        return (x - x.mean(-2, keepdim=True)) / x.std(-2, keepdim=True)",
        {
            "03": ["no-leak @ of_source ="],
            "09": ["masked-decoder @ one_by_one", "equals-torch-transformer"],
            "08": ["encoder-equals-torch"],
        },
    ),
    Break(
        "66 the residual of pre-norm begins after the norm",
        "layers.py",
        "return x + self.dropout(sublayer(self.layer_norm(x)))",
        "x = self.layer_norm(x)\n            return x + self.dropout(sublayer(x))",
        {"08": ["encoder-equals-torch"], "09": ["equals-torch-transformer"]},
    ),
    Break(
        "68 feed-forward without a nonlinearity",
        "layers.py",
        "self.W_2(self.dropout(self.activation(self.W_1(x))))",
        "self.W_2(self.dropout(self.W_1(x)))",
        {"08": ["attention-plus-ffn @ bend(", "encoder-equals-torch"], "09": ["equals-torch-transformer"]},
    ),
    Break(
        "74 dropout in evaluation",
        "layers.py",
        "return self.layer_norm(x + self.dropout(sublayer(x)))",
        "return self.layer_norm(x + F.dropout(sublayer(x), self.dropout.p))",
        {"03": ["no-leak @ of_source ="], "09": ["masked-decoder @ one_by_one"]},
    ),
    Break(
        "27 pooling over the padding",
        "layers.py",
        "self.W_k(x), x, mask=mask)",
        "self.W_k(x), x)",
        {"08": ["sentiment @ naive ="]},
    ),
    Break(
        "a feed-forward layer that sees its neighbours",
        "layers.py",
        "self.W_2(self.dropout(self.activation(self.W_1(x))))",
        "self.W_2(self.dropout(self.activation(self.W_1(x + x.roll(1, -2)))))",
        {"08": ["attention-plus-ffn @ by_feed_forward"]},
    ),
    Break(
        "65 the unbiased variance",
        "notebook 08",
        "variance = (x - mean).square().mean(-1, keepdim=True)",
        "variance = x.var(-1, keepdim=True)",
        {"08": ["layer-norm @ plain ="]},
    ),
    Break(
        "no residual connection",
        "notebook 08",
        "x = x + out if residual else out",
        "x = out",
        {"08": ["residual @ gradient_at_first"]},
    ),
    Break(
        "24 no causal mask in the encoder",
        "transformer.py",
        "x = layer(x, mask, causal=causal)",
        "x = layer(x, mask)",
        {"05": ["bag-of-words @ causal ="]},
    ),
    # Positions
    Break(
        "48 exponent 4i/d",
        "positions.py",
        "(-math.log(base) / d)",
        "(-2 * math.log(base) / d)",
        {"05": ["sinusoidal @ by_distance =", "sinusoidal @ closed_form =", "rotary-alibi @ turned_dot"]},
    ),
    Break(
        "49 the cosine has a frequency of its own",
        "positions.py",
        "[angles.sin(), angles.cos()]",
        "[angles.sin(), (angles * base ** (-1 / d_model)).cos()]",
        {"05": ["linear-shift @ exact_here", "linear-shift @ keeps =", "sinusoidal @ closed_form ="]},
    ),
    Break(
        "50 divided by the inverse frequency",
        "positions.py",
        "[:, None] * _frequencies(d_model, base)",
        "[:, None] / _frequencies(d_model, base)",
        {"05": ["sinusoidal @ by_distance =", "linear-shift @ exact_here"]},
    ),
    Break(
        "51 sines and cosines in two halves",
        "positions.py",
        "torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2).float()",
        "torch.cat([angles.sin(), angles.cos()], dim=-1).float()",
        {"05": ["sinusoidal @ closed_form =", "linear-shift @ exact_here"]},
    ),
    Break(
        "52 sines only",
        "positions.py",
        "[angles.sin(), angles.cos()]",
        "[angles.sin(), angles.sin()]",
        {"05": ["linear-shift @ keeps =", "sinusoidal @ by_distance ="]},
    ),
    Break(
        "52 positions begin at 1",
        "positions.py",
        "torch.arange(length, dtype=torch.float64)[:, None] *",
        "torch.arange(1, length + 1, dtype=torch.float64)[:, None] *",
        {"05": ["sinusoidal @ by_distance ="]},
    ),
    Break(
        "54 no positions",
        "positions.py",
        "return x + self.table[start:end].to(x.dtype)",
        "return x.clone()",
        {"05": ["bag-of-words @ placed =", "add-vs-concat @ side_by_side"]},
    ),
    Break(
        "offsets from key to query",
        "positions.py",
        "index = offset.clamp(-self.max_distance, self.max_distance) + self.max_distance",
        "index = self.max_distance - offset.clamp(-self.max_distance, self.max_distance)",
        {"05": ["relative-shaw @ by_hand_scores"]},
    ),
    Break(
        "rotary positions turn the query only",
        "positions.py",
        "rotate(query, at_query, base=self.base), rotate(key, at_key, base=self.base)",
        "rotate(query, at_query, base=self.base), key",
        {"05": ["rotary-alibi @ turned_dot"]},
    ),
    Break(
        "slopes begin with 1",
        "positions.py",
        "torch.arange(1, n_heads + 1) / n_heads",
        "torch.arange(n_heads) / n_heads",
        {"05": ["rotary-alibi @ Alibi(8)(q, keys)"]},
    ),
    # Decoding
    Break(
        "only the newest token, even without a cache",
        "decoding.py",
        "self.model, self.use_cache = model, use_cache",
        "self.model, self.use_cache = model, True",
        {"09": ["kv-cache @ endless ="]},
    ),
    Break(
        "cached tokens all stand at position 0",
        "transformer.py",
        "start = caches[0].self_attention.length if caches else 0",
        "start = 0",
        {"09": ["beam-search @ together ="]},
    ),
    # Kinds of attention
    Break(
        "14 a cosine that depends on the key's length",
        "scores.py",
        "@ nn.functional.normalize(key, dim=-1).transpose(-2, -1)",
        "@ key.transpose(-2, -1)",
        {"02": ["score-contest @ printed_cosine"]},
    ),
    Break(
        "ReLU for tanh in the additive score",
        "scores.py",
        "self.v(torch.tanh(pairs))",
        "self.v(torch.relu(pairs))",
        {"02": ["score-contest @ network(-q, -k)"]},
    ),
    Break(
        "ReLU not divided by its sum",
        "normalizers.py",
        "return positive / total.where(total > 0, 1.0)",
        "return positive",
        {"02": ["normalizer-contest @ shift_changes ="]},
    ),
    Break(
        "sparsemax onto weights that sum to 2",
        "normalizers.py",
        "above = ordered.cumsum(dim=-1) - 1",
        "above = ordered.cumsum(dim=-1) - 2",
        {"02": ["normalizer-contest @ shift_changes ="]},
    ),
    Break(
        "15 a hard choice that is only a sharp one",
        "normalizers.py",
        "return torch.zeros_like(scores).scatter(-1, scores.argmax(dim=-1, keepdim=True), 1.0)",
        "return torch.softmax(100 * scores, dim=-1)",
        {"02": ["hard-attention @ nudge", "normalizer-contest @ reached ="]},
    ),
    # Inputs and rivals
    Break(
        "frames that do not overlap",
        "tasks/sound.py",
        "return samples.unfold(0, wide, apart)",
        "return samples.unfold(0, wide, wide)",
        {"00": ["vector-sets @ longer ="]},
    ),
    Break(
        "a window that looks ahead only",
        "rivals.py",
        "(0, 0, self.radius, self.radius))",
        "(0, 0, 0, 2 * self.radius))",
        {"00": ["window-baseline @ swapped ="]},
    ),
    Break(
        "a window without an edge",
        "rivals.py",
        "return _without_padding(self.output(F.relu(self.hidden(side_by_side))), mask)",
        "return self.output(F.relu(self.hidden(side_by_side.mean(1, keepdim=True)))).expand(-1, length, -1)",
        {"00": ["window-baseline @ swapped ="]},
    ),
    # Images: lesson 06
    Break(
        "20 a kernel's cells mirrored",
        "masks.py",
        "(at_query + cell[:, None])",
        "(at_query - cell[:, None])",
        {"06": ["cnn-special-case @ tried = 0"]},
    ),
    Break(
        "dilation forgotten in a kernel's masks",
        "masks.py",
        "cell = torch.arange(-(width // 2), width // 2 + 1, device=device) * dilation",
        "cell = torch.arange(-(width // 2), width // 2 + 1, device=device)",
        {"06": ["cnn-special-case @ tried = 0"]},
    ),
    Break(
        "quadratic positions with the query's place minus the key's",
        "positions.py",
        "place - place[:, None]",
        "place[:, None] - place",
        {"06": ["cnn-special-case @ falling ="]},
    ),
    Break(
        "quadratic positions without their sharpness",
        "positions.py",
        "scores = -self.alpha[:, None, None] * distance",
        "scores = -distance",
        {"06": ["cnn-special-case @ falling ="]},
    ),
    Break(
        "negative attention weights allowed",
        "notebook 06",
        "return logits.detach()[loss.argmin()].softmax(-2)",
        "return torch.linalg.svd(K).U[:, :heads]",
        {"06": ["cnn-special-case @ blur =", "cnn-special-case @ cell, free, bound"]},
    ),
    Break(
        "the heads' matrices read off, not fitted",
        "notebook 06",
        "M = torch.linalg.lstsq(A, K).solution",
        "M = A.T @ K",
        {"06": ["cnn-special-case @ measured ="]},
    ),
    Break(
        "attention that does not look at the content",
        "normalizers.py",
        "return torch.softmax(scores, dim=-1)",
        "return torch.softmax(0 * scores, dim=-1)",
        {"06": ["cnn-special-case @ layer(2 * x)"]},
    ),
    Break(
        "patches cut from lines",
        "images.py",
        "return cut.transpose(-3, -2).flatten(-2).flatten(-3, -2)",
        "return cut.flatten(-2).flatten(-3).unflatten(-1, (-1, size * size))",
        {"06": ["image-as-set @ torchs ="]},
    ),
    Break(
        "54 positions forgotten in the vision Transformer",
        "images.py",
        "LearnedPositions(d_model, n_patches) if positions else nn.Identity()",
        "LearnedPositions(d_model, n_patches).requires_grad_(positions)",
        {"06": ["image-as-set @ bag(shuffle(some))"]},
    ),
    Break(
        "strides forgotten in the CNN",
        "images.py",
        "nn.Conv2d(d_in, d_out, width, stride, padding, dilation)",
        "nn.Conv2d(d_in, d_out, width, 1, padding, dilation)",
        {"06": ["receptive-field @ corner = moved_by"]},
    ),
    Break(
        "dilations forgotten in the CNN",
        "images.py",
        "nn.Conv2d(d_in, d_out, width, stride, padding, dilation)",
        "nn.Conv2d(d_in, d_out, width, stride, width // 2)",
        {"06": ["receptive-field @ corner = moved_by"]},
    ),
    Break(
        "24 a causal mask between pixels",
        "layers.py",
        "x = self.around_self_attention(\n"
        "            x, lambda x: self.self_attention(x, mask=mask, causal=causal,",
        "x = self.around_self_attention(\n"
        "            x, lambda x: self.self_attention(x, mask=mask, causal=True,",
        {"06": ["receptive-field @ corner = moved_by"]},
    ),
    Break(
        "kernels of positive numbers only",
        "notebook 06",
        "weight = 2 * torch.rand(channels, channels, 3, 3, generator=rng) - 1",
        "weight = torch.nn.init.dirac_(torch.empty(channels, channels, 3, 3))",
        {"06": ["receptive-field @ slopes ="]},
    ),
    # Lessons' own code, where a claim is about what the reader writes
    Break(
        "embeddings of the directions that matter least",
        "notebook 00",
        "U[:, :8] * S[:8]",
        "U[:, -8:] * S[-8:]",
        {"00": ["vector-sets @ far_one_hot"]},
    ),
    Break(
        "a writer that forgets what it has written",
        "notebook 00",
        "state = torch.tanh(state @ W_state + of_word[word])",
        "state = X.mean(dim=0)",
        {"00": ["three-outputs @ vectors_of ="]},
    ),
    Break(
        "2 divided by d, on paper",
        "notebook 01",
        "for k in key]) / math.sqrt(d_k)\n",
        "for k in key]) / d_k\n",
        {"01": ["score-normalize-sum @ zip(cafes"]},
    ),
    Break(
        "4 NumPy's softmax over the queries",
        "notebook 01",
        "np.exp(scores).sum(axis=1, keepdims=True)\n",
        "np.exp(scores).sum(axis=0, keepdims=True)\n",
        {"01": ["matrix-form @ third_alone"]},
    ),
    Break(
        "2 divided by d, drawn as the root",
        "notebook 01",
        '"by √d_k": lambda d_k: d_k**-0.5',
        '"by √d_k": lambda d_k: d_k**-1.0',
        {"01": ["scale @ at_query"]},
    ),
    Break(
        "10 NumPy's softmax without subtracting the maximum",
        "notebook 01",
        "np.exp(scores - scores.max(axis=-1, keepdims=True))",
        "np.exp(scores)",
        {"01": ["stable-softmax"]},
    ),
    Break(
        "16 mask after softmax, taken for the right way",
        "notebook 03",
        '"score = -inf": torch.softmax(scores.masked_fill(~may, -math.inf), dim=-1),',
        '"score = -inf": torch.softmax(scores, dim=-1) * may,',
        {"03": ["no-leak @ quiet ="]},
    ),
    Break(
        "20 the single-key mask inverted",
        "notebook 03",
        "only = torch.zeros(6, 6, dtype=torch.bool)\nonly[:, 2] = True",
        "only = torch.ones(6, 6, dtype=torch.bool)\nonly[:, 2] = False",
        {"03": ["mask-polarity @ just_key_2"]},
    ),
    Break(
        "43 batch and sequence swapped",
        "notebook 03",
        "nn.MultiheadAttention(8, 2, batch_first=True)",
        "nn.MultiheadAttention(8, 2)",
        {"03": ["no-leak @ forgotten, said"]},
    ),
    Break(
        "29 nan where finite numbers are to be seen",
        "notebook 03",
        "torch.full((4,), -1e9)",
        "torch.full((4,), -math.inf)",
        {"03": ["empty-row @ lowered ="]},
    ),
    Break(
        "29 the lowest number where nan is to be seen",
        "notebook 03",
        "return torch.softmax(scores.masked_fill(~may, -math.inf), dim=-1) @ x",
        "return torch.softmax(scores.masked_fill(~may, -1e9), dim=-1) @ x",
        {"03": ["empty-row @ bad ="]},
    ),
    Break(
        "29 the lowest number where a nan gradient is to be seen",
        "notebook 03",
        "scores = (x @ x.mT / 2).masked_fill(~may, -math.inf)",
        "scores = (x @ x.mT / 2).masked_fill(~may, -1e9)",
        {"03": ["empty-row @ nan_to_num"]},
    ),
    Break(
        "a beam that forgets all but its best beginning",
        "notebook 09",
        "key=lambda item: -item[1])[:width])",
        "key=lambda item: -item[1])[:1])",
        {"09": ["beam-search @ every ="]},
    ),
    # Recurrence, chapter 07
    Break(
        "the state is not handed on",
        "recurrence.py",
        "before = F.linear(h, self.weight_hh, self.bias_hh)",
        "before = F.linear(torch.zeros_like(h), self.weight_hh, self.bias_hh)",
        {"07": ["sequential-steps @ at least a matrix product"]},
    ),
    Break(
        "a scan that forgets to join the factors",
        "recurrence.py",
        "        decay = decay * earlier_decay\n",
        "",
        {"07": ["sequential-steps @ scan = loop"]},
    ),
    Break(
        "a linear recurrence without its factor",
        "recurrence.py",
        "        h = a * h + b\n",
        "        h = h + b\n",
        {"07": ["sequential-steps @ scan = loop", "path-length @ linear_loop"]},
    ),
    Break(
        "keys far from the end are scored lower",
        "core.py",
        "    scores = score(query, key)\n",
        "    scores = score(query, key) + 0.1 * torch.arange(key.size(-2))\n",
        {"07": ["path-length @ far_off"]},
    ),
    Break(
        "Bahdanau's score without its tanh",
        "scores.py",
        "self.v(torch.tanh(pairs))",
        "self.v(pairs)",
        {"07": ["bahdanau @ by_hand"]},
    ),
    Break(
        "27 a recurrent decoder attends to padding",
        "rivals.py",
        "self.decoder(x, memory, memory_mask[:, 0], cache.state, cache.keys)",
        "self.decoder(x, memory, memory_mask[:, 0] | True, cache.state, cache.keys)",
        {"07": ["bahdanau @ by_hand"]},
    ),
    Break(
        "the context of the step before",
        "rivals.py",
        "            context = context.squeeze(1)\n",
        "            context = context.squeeze(1).roll(1, 0)\n",
        {"07": ["bahdanau @ by_hand"]},
    ),
]


# Which statements of a lesson a cell needs


class Cell(NamedTuple):
    number: int  # among the code cells, from 1, as the notebook shows it
    source: str
    tags: frozenset[str]


def cells_of(lesson: Path) -> list[Cell]:
    """The code cells that run without a GPU and without downloaded data."""
    code = [cell for cell in nbformat.read(lesson, as_version=4).cells if cell.cell_type == "code"]
    found = [Cell(n, cell.source, frozenset(cell.metadata.get("tags", []))) for n, cell in enumerate(code, 1)]
    return [cell for cell in found if not cell.tags & LEFT_OUT]


def find(cells: Sequence[Cell], claim: str) -> Cell:
    """The one cell of "id" or "id @ text in the cell"."""
    name, _, text = claim.partition(" @ ")
    of_claim = [cell for cell in cells if f"claim:{name}" in cell.tags and text in cell.source]
    if len(of_claim) != 1:
        places = [cell.number for cell in of_claim]
        raise LookupError(f"{claim!r} must name one cell, but these have the tag and the text: {places}")
    return of_claim[0]


class Names(NamedTuple):
    bound: set[str]
    surely: set[str]  # bound, whatever branch is taken
    read: set[str]  # before they are bound


def names_in(statements: Sequence[ast.stmt]) -> Names:
    """The module's names that these statements bind and read."""
    bound, surely, read = set(), set(), set()
    for statement in statements:
        found = names_of(statement)
        read |= found.read - surely
        bound |= found.bound
        surely |= found.surely
    return Names(bound, surely, read)


def names_of(statement: ast.stmt) -> Names:
    match statement:
        case ast.For():
            targets = stored(statement.target)
            inside = names_in(statement.body + statement.orelse)
            read = simple(statement.iter).read | (inside.read - targets)
            return Names(targets | inside.bound, targets, read)
        case ast.With():
            bound, read = set(), set()
            for item in statement.items:
                read |= simple(item.context_expr).read - bound
                bound |= stored(item.optional_vars) if item.optional_vars else set()
            inside = names_in(statement.body)
            return Names(bound | inside.bound, bound | inside.surely, read | (inside.read - bound))
        case ast.If() | ast.While():
            inside, other = names_in(statement.body), names_in(statement.orelse)
            read = simple(statement.test).read | inside.read | other.read
            return Names(inside.bound | other.bound, inside.surely & other.surely, read)
        case _:
            return simple(statement)


def simple(node: ast.AST) -> Names:
    """By Python's own table of names, which knows what is local to a function or a comprehension."""
    top = symtable.symtable(ast.unparse(node), "cell", "exec")
    symbols = top.get_symbols()
    bound = {s.get_name() for s in symbols if s.is_assigned() or s.is_imported() or s.is_namespace()}
    read = {s.get_name() for s in symbols if s.is_referenced()}
    inner = list(top.get_children())
    while inner:
        table = inner.pop()
        read |= {s.get_name() for s in table.get_symbols() if s.is_global() and s.is_referenced()}
        inner += table.get_children()
    if isinstance(node, ast.AugAssign):
        read |= stored(node.target)
    return Names(bound, bound, read - (bound if isinstance(node, ast.FunctionDef | ast.ClassDef) else set()))


def stored(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def root(node: ast.AST) -> set[str]:
    """The name that an expression like `model.layers[0].eval()` begins with."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call | ast.Starred):
        node = node.func if isinstance(node, ast.Call) else node.value
    return {node.id} if isinstance(node, ast.Name) else set()


def changed_by(statement: ast.stmt) -> set[str]:
    """The names whose objects a statement may change in place.

    Those are: stored into (x[0] = .., x.y = ..), or used in a call whose result nobody keeps (x.eval(), f(x),
    _ = f(x)), or given to a function that trains. A loop's variable stands for what is looped over.
    """
    changed = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
            changed |= root(node)
        unkept = isinstance(node, ast.Expr) or (isinstance(node, ast.Assign) and stored(node) == {"_"})
        call = node.value if unkept else node
        trains = isinstance(call, ast.Call) and ast.unparse(call.func) in ("fit", "fit_labels", "minimise")
        shows = isinstance(call, ast.Call) and root(call) <= {"print", "plots", "figures"}
        if isinstance(call, ast.Call) and (unkept or trains) and not shows:
            changed |= root(call).union(*(root(argument) for argument in call.args))
    for node in ast.walk(statement):
        if isinstance(node, ast.For) and stored(node.target) & changed:
            changed |= simple(node.iter).read
    return changed


class WithoutAssertions(ast.NodeTransformer):
    def visit_Assert(self, node: ast.Assert) -> ast.stmt:
        return ast.copy_location(ast.Pass(), node)


def parse(cell: Cell) -> ast.Module:
    return ast.parse(cell.source, f"<cell {cell.number}>")


def program(cells: Sequence[Cell], claim: Cell) -> list[tuple[str, str]]:
    """(where, source) in order: what earlier cells do for the claim's cell, then that cell as it stands."""
    earlier = [(cell, parse(cell)) for cell in cells if cell.number < claim.number]
    statements = [(cell, s) for cell, tree in earlier for s in WithoutAssertions().visit(tree).body]
    modules = set().union(*(imported(tree) for _, tree in earlier))
    found = [names_of(statement) for _, statement in statements]
    touched = []
    for (_, statement), names in zip(statements, found, strict=True):
        changed = changed_by(statement)
        # torch.manual_seed(0) by itself counts as needed; an experiment that has it inside does not.
        touched.append(names.bound | (changed if isinstance(statement, ast.Expr) else changed - modules))
    wanted = names_in(parse(claim).body).read
    kept, before = set[int](), None
    while kept != before:
        before, kept, needed = kept, set(), set(wanted)
        for i in reversed(range(len(statements))):
            if touched[i] & needed:
                kept.add(i)
                needed = (needed - found[i].surely) | found[i].read
        # Functions read their names when they are called, which may be in the claim's cell.
        for i in kept:
            if any(isinstance(node, ast.FunctionDef | ast.Lambda) for node in ast.walk(statements[i][1])):
                wanted |= found[i].read
    pieces: dict[str, list[str]] = {}
    for i in sorted(kept):
        pieces.setdefault(f"cell {statements[i][0].number}", []).append(ast.unparse(statements[i][1]))
    return [*((where, "\n".join(lines)) for where, lines in pieces.items()), (CLAIM, claim.source)]


def imported(tree: ast.Module) -> set[str]:
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    return set().union(*(simple(node).bound for node in imports))


# Breaking, and running


def replaced(text: str, old: str, new: str, where: str) -> str:
    if text.count(old) != 1:
        raise LookupError(f"{where} must hold this text once, but has it {text.count(old)} times:\n{old}")
    return text.replace(old, new)


def broken_library(bug: Break, folder: Path) -> Path:
    """A folder with a copy of attn that has the bug."""
    shutil.copytree(ROOT / "lib/attn", folder / "attn", ignore=shutil.ignore_patterns("__pycache__"))
    file = folder / "attn" / bug.file
    text = replaced(file.read_text(encoding="utf-8"), bug.old, bug.new, bug.file)
    file.write_text(text, encoding="utf-8")
    return folder


def broken_cells(bug: Break, cells: Sequence[Cell]) -> list[Cell]:
    in_all = "\0".join(cell.source for cell in cells)
    sources = replaced(in_all, bug.old, bug.new, bug.file).split("\0")
    return [cell._replace(source=source) for cell, source in zip(cells, sources, strict=True)]


class Outcome(NamedTuple):
    where: str  # "" if everything ran
    error: str = ""
    text: str = ""
    seconds: float = 0.0  # of CPU


def run(library: Path, programs: Sequence[Sequence[tuple[str, str]]], results) -> None:
    """In a process of its own, where attn has not been imported: send what became of each program."""
    sys.path.insert(0, str(library))
    os.environ["ATTN_CHECK_SHAPES"] = "0"  # a wrong value must be seen, not a wrong shape
    os.chdir(ROOT / "notebooks")
    warnings.simplefilter("ignore")
    plots, torch = importlib.import_module("attn.plots"), importlib.import_module("torch")
    assert Path(plots.__file__).resolve().is_relative_to(library.resolve()), f"attn is {plots.__file__}"
    plots.show = plots.slider = lambda *_, **__: None
    torch.set_num_threads(1)
    for pieces in programs:
        torch.manual_seed(0)
        begin = time.process_time()
        results.send(outcome(pieces)._replace(seconds=time.process_time() - begin))


def outcome(pieces: Sequence[tuple[str, str]]) -> Outcome:
    names = {"__name__": "__main__"}
    for where, source in pieces:
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(source, f"<{where}>", "exec"), names)
        except Exception as error:
            lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__)]
            line = source.splitlines()[lines[1] - 1] if len(lines) > 1 else ""
            return Outcome(where, type(error).__name__, f"{line.strip()}\n{error}".strip())
    return Outcome("")


def outcomes(library: Path, programs: Sequence[Sequence[tuple[str, str]]]) -> list[Outcome]:
    """Each program's outcome, in a new process forked from one that has imported torch."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    os.environ.setdefault("MPLBACKEND", "Agg")
    found: list[Outcome] = []
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=run, args=(library, programs, theirs), daemon=True)
    child.start()
    theirs.close()
    try:
        while len(found) < len(programs):
            if not ours.poll(SECONDS):
                raise TimeoutError(f"{library}: no outcome of program {len(found)} within {SECONDS} s")
            found.append(ours.recv())
        return found
    except EOFError:
        raise RuntimeError(f"{library}: the process ended before program {len(found)} did") from None
    finally:
        child.join(timeout=5)
        child.kill()


# Cases

CASES = [
    pytest.param(bug, lesson, claim, id=f"{bug.name}-{lesson} {claim}")
    for bug in BREAKS
    for lesson, claims in bug.seen_by.items()
    for claim in claims
]
USED = {lesson: sorted({c.values[2] for c in CASES if c.values[1] == lesson}) for lesson in LESSONS}
of_each_lesson = pytest.mark.parametrize("lesson", LESSONS)


@cache
def lesson_cells(lesson: str) -> list[Cell]:
    return cells_of(LESSONS[lesson])


@pytest.fixture(scope="module")
def over_broken(tmp_path_factory):
    """Break → outcome of each (lesson, claim): one process for each break."""

    @cache
    def of(name: str) -> dict[tuple[str, str], Outcome]:
        bug = next(bug for bug in BREAKS if bug.name == name)
        in_notebook = bug.file.startswith("notebook ")
        library = ROOT / "lib" if in_notebook else broken_library(bug, tmp_path_factory.mktemp("broken"))
        programs = {}
        for lesson, claims in bug.seen_by.items():
            cells = lesson_cells(lesson)
            if in_notebook:
                cells = broken_cells(bug, cells)
            for claim in claims:
                number = find(lesson_cells(lesson), claim).number
                programs[lesson, claim] = program(cells, next(c for c in cells if c.number == number))
        return dict(zip(programs, outcomes(library, list(programs.values())), strict=True))

    return of


@pytest.mark.parametrize(("bug", "lesson", "claim"), CASES)
def test_claim_fails_over_the_broken_library(bug, lesson, claim, over_broken):
    found = over_broken(bug.name)[lesson, claim]
    assert found.where, (
        f"with {bug.name!r} in {bug.file} the cell of {claim!r} in lesson {lesson} still passes"
    )
    assert (found.where, found.error) == (CLAIM, "AssertionError"), found


@cache
def over_sound(lesson: str) -> dict[str, Outcome]:
    cells = lesson_cells(lesson)
    programs = [program(cells, find(cells, claim)) for claim in USED[lesson]]
    return dict(zip(USED[lesson], outcomes(ROOT / "lib", programs), strict=True))


@pytest.mark.parametrize(
    ("lesson", "claim"), [(lesson, claim) for lesson, claims in USED.items() for claim in claims]
)
def test_control_claim_passes_over_the_sound_library(lesson, claim):
    found = over_sound(lesson)[claim]
    assert not found.where, found
    assert found.seconds < 15, "a cell for this test trains little, or not at all"


@of_each_lesson
def test_every_lesson_has_claims_that_were_seen_to_fail(lesson):
    assert len(USED[lesson]) >= 2, f"add cases to BREAKS: lesson {lesson} has {USED[lesson]}"


def test_enough_claim_cells_fail_over_a_broken_library():
    bugs = [bug for bug in BREAKS if not bug.file.startswith("notebook ")]
    named = {(lesson, claim) for bug in bugs for lesson, claims in bug.seen_by.items() for claim in claims}
    cells = {(lesson, find(lesson_cells(lesson), claim).number) for lesson, claim in named}
    assert len(cells) == len(named), "one cell is named in two ways"
    assert len(cells) >= 24


def test_names_of_breaks_are_their_own():
    assert len({bug.name for bug in BREAKS}) == len(BREAKS)


# The tests of the test


def made(*sources: str, claimed: int = -1) -> list[Cell]:
    """Code cells, one of which (the last) is the cell of the claim `made`."""
    tags = [frozenset[str]() for _ in sources]
    tags[claimed] = frozenset({"claim:made"})
    return [Cell(n, source, tag) for n, (source, tag) in enumerate(zip(sources, tags, strict=True), start=1)]


def made_program(*sources: str) -> list[tuple[str, str]]:
    cells = made(*sources)
    return program(cells, find(cells, "made"))


def test_a_text_that_is_missing_or_there_twice_is_reported(tmp_path):
    bug = Break("made", "masks.py", "no such text", "", {})
    with pytest.raises(LookupError, match=r"masks\.py must hold this text once, but has it 0 times"):
        broken_library(bug, tmp_path / "missing")
    with pytest.raises(LookupError, match="has it 2 times"):
        broken_cells(Break("made", "notebook 01", "x = 1", "", {}), made("x = 1", "x = 1"))


def test_only_the_copy_is_broken(tmp_path):
    before = (ROOT / "lib/attn/masks.py").read_bytes()
    bug = next(bug for bug in BREAKS if bug.file == "masks.py")
    copy = broken_library(bug, tmp_path / "copy") / "attn/masks.py"
    assert copy.read_bytes() != before == (ROOT / "lib/attn/masks.py").read_bytes()


def test_a_claim_must_name_one_cell():
    cells = made("x = 1", "assert x")
    assert find(cells, "made @ assert").number == 2
    with pytest.raises(LookupError, match=r"\[\]"):
        find(cells, "made @ x = 1")
    with pytest.raises(LookupError, match=r"\[1, 2\]"):
        find([cell._replace(tags=frozenset({"claim:made"})) for cell in cells], "made")


def test_outcomes_tell_what_failed_and_where(tmp_path):
    bug = Break("made", "masks.py", "device=device) <= 0", "device=device) <= 1", {})
    use = "from attn import masks\nmay = masks.causal(3)\nassert not may[0, 1]"
    programs = {
        "seen": made_program(use, "print(may)\nassert not may[0, 1], 'leaks'"),
        "no assertion": made_program(use, "may[0, 1]"),
        "too weak": made_program(use, "assert may[0, 0]"),
        "another error": made_program(use, "may[7]"),
        "earlier": made_program(use, "masks.nothing(may)", "assert not may[0, 1]"),
        "exit": [(CLAIM, "import os\nos._exit(3)")],
    }
    *first, last = programs.values()
    sound = dict(zip(programs, outcomes(ROOT / "lib", first), strict=False))
    broken = dict(zip(programs, outcomes(broken_library(bug, tmp_path / "copy"), first), strict=False))
    assert [sound[name].where for name in ("seen", "no assertion", "too weak")] == ["", "", ""]
    seen = broken["seen"]
    assert seen[:3] == (CLAIM, "AssertionError", "assert not may[0, 1], 'leaks'\nleaks")
    assert [broken[name].where for name in ("no assertion", "too weak")] == ["", ""], (
        "these would be reported"
    )
    assert broken["another error"][:2] == (CLAIM, "IndexError")
    assert broken["earlier"][:2] == ("cell 2", "AttributeError")
    with pytest.raises(RuntimeError, match="ended before program 0"):
        outcomes(ROOT / "lib", [last])


def test_earlier_assertions_do_not_count():
    pieces = made_program("x = 1\nassert x == 2\nfor y in [x]:\n    assert y == 2", "assert y == 1")
    assert outcome(pieces).where == ""
    assert outcome(made_program("x = 1 / 0", "assert x")).where == "cell 1"


@pytest.mark.parametrize(
    ("earlier", "claim", "kept"),
    [
        ("a = 1\nb = 2\nc = a", "assert c", "a = 1\nc = a"),  # what is not needed is left out
        ("a = [1]\na[0] = 2\na.append(3)", "assert a", "a = [1]\na[0] = 2\na.append(3)"),  # changes in place
        ("a = 1\na += 1", "assert a", "a = 1\na += 1"),
        ("a = b = 1\na = 2", "assert a", "a = 2"),  # overwritten
        ("def f():\n    return g\ng = 1\nh = 2", "assert f()", "def f():\n    return g\ng = 1"),
        ("a = 1", "assert sum(a for a in [1])", ""),  # the comprehension's own a
        ("a = 1", "def f(a):\n    return a\nassert f(2)", ""),
        ("a = [1]\nfor x in a:\n    x.go()", "assert a", "a = [1]\nfor x in a:\n    x.go()"),
        ("a = 1\nh = fit(a)\nk = f(a)", "assert a", "a = 1\nh = fit(a)"),  # training changes a model
        ("a = 1\nprint(a)\nplots.show(a)\nf(a)\n_ = g(a)", "assert a", "a = 1\nf(a)\n_ = g(a)"),
        ("a = 1\nfigures.f(a)\n_ = figures.g(a)", "assert a", "a = 1"),
        ("import torch\nfor i in [1]:\n    torch.manual_seed(i)", "torch.ones(1)", "import torch"),
        ("import torch\ntorch.manual_seed(1)", "torch.ones(1)", "import torch\ntorch.manual_seed(1)"),
        ("a = 1\nfor x in [2]:\n    pass", "for x in [a]:\n    assert x", "a = 1"),
        ("a = 1\nwith f(a) as b:\n    c = b", "assert c", "a = 1\nwith f(a) as b:\n    c = b"),
    ],
)
def test_a_cell_gets_what_it_needs_of_earlier_ones(earlier, claim, kept):
    found = made_program(earlier, claim)
    assert found == ([("cell 1", kept)] if kept else []) + [(CLAIM, claim)]
