"""How the learning rate changes: pure functions from the step to a factor.

Steps count from 1, as in the paper, so the first step already learns something. The learning rate of a step
is `learning_rate * factor`.
"""

from math import cos, pi


def warmup_inverse_sqrt(step: int, d_model: int, warmup: int) -> float:
    """The paper's schedule (Vaswani et al. 2017, section 5.3, equation 3); use it with learning_rate=1.

        factor = d_model^(-1/2) * min(step^(-1/2), step * warmup^(-3/2))

    A straight line up for `warmup` steps, then falling like 1 / sqrt(step):

        1/sqrt(d_model * warmup) |      /\\
                                 |    /    ` - .
                                 |  /            ` ` ` - - - . . . .
                                 +------+---------------------------> step
                                      warmup

    Raises ValueError where step, d_model or warmup is less than 1.
    """
    _at_least_one(step=step, d_model=d_model, warmup=warmup)
    return d_model**-0.5 * min(step**-0.5, step * warmup**-1.5)


def warmup_cosine(step: int, total: int, warmup: int, floor: float = 0.01) -> float:
    """A straight line up to 1, then half a cosine down to `floor` at the last step.

        factor = step / warmup                                        up to step = warmup
        factor = floor + (1 - floor) * (1 + cos(pi * progress)) / 2   after it
        progress = (step - warmup) / (total - warmup)                 from 0 to 1

        1 |    / ` ` - .
          |   /           `  .
          |  /                  ` .
          | /                        ` - . _  floor
          +-----+--------------------------+-> step
              warmup                     total

    This is the shape of "one-cycle" training (Smith and Topin 2018) without the momentum's own cycle, and the
    cosine of Loshchilov and Hutter 2017 (equation 5) run once. After `total` the factor stays at `floor`.

    Raises ValueError where step, total or warmup is less than 1, or warmup more than total.
    """
    _at_least_one(step=step, total=total, warmup=warmup)
    if warmup > total:
        raise ValueError(f"warmup ({warmup} steps) must not be longer than the training ({total} steps)")
    if step <= warmup:
        return step / warmup
    progress = min(1.0, (step - warmup) / (total - warmup))
    return floor + (1 - floor) * (1 + cos(pi * progress)) / 2


def _at_least_one(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be at least 1, not {number} (steps count from 1)")
