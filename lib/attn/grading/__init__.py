"""Exercises that name your mistake: `check(answer, "01.stable_softmax")`."""

from attn.grading.checking import Result as Result
from attn.grading.checking import check as check
from attn.grading.checking import examine as examine
from attn.grading.exercise import load as load
