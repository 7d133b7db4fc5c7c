"""The loss of a translator: cross entropy over the real tokens of a batch."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def token_loss(
    logits: Float[Tensor, "batch length vocabulary"],
    target_out: Int[Tensor, "batch targets"],  # not "length": the error below says more than a shape check
    *,
    pad: int = 0,
    label_smoothing: float = 0.0,
) -> tuple[Float[Tensor, ""], Int[Tensor, ""]]:
    """Sum of the cross entropy over the tokens that are not padding, and how many those are.

    A sum and a count, not a mean: batches hold different numbers of real tokens, so a mean of means would
    weigh the tokens of a short batch more. Divide the sum of all sums by the sum of all counts.

    `logits` are scores before the softmax, in nats; `logits[:, t]` must predict `target_out[:, t]`, the token
    that follows `target_in[:, t]`. With `label_smoothing` e the true token is worth 1 - e and e is spread
    evenly over the whole vocabulary, the true token included (Szegedy et al. 2016, section 7; Vaswani et al.
    2017, section 5.4, use e = 0.1).

    Raises ValueError where label_smoothing is not in [0, 1) or where the shapes differ.
    """
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing must be at least 0 and less than 1, not {label_smoothing}")
    if logits.shape[:-1] != target_out.shape:
        raise ValueError(
            f"logits are for {tuple(logits.shape[:-1])} (batch, length) but the target is "
            f"{tuple(target_out.shape)}: feed the model target[:, :-1] and compare with target[:, 1:]"
        )
    if logits.dtype.itemsize < 4:  # 16 bits are too few to add up thousands of words
        logits = logits.float()
    total = F.cross_entropy(
        logits.flatten(0, 1),
        target_out.flatten(),
        ignore_index=pad,
        label_smoothing=label_smoothing,
        reduction="sum",
    )
    return total, (target_out != pad).sum()
