"""What grading found, as plain data: a Row per submission, a Question per exercise of it.

Rows hold nothing that depends on the machine, the time or the order: equal submissions give equal rows, byte
for byte.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

# Of a submission. Only "graded" rows carry a mark; the others say why there is none.
RowStatus = Literal["graded", "timeout", "crashed", "out of memory", "unreadable", "missing"]
# Of one exercise. A crash, a timeout and the like cost the question in which they happen.
QuestionStatus = Literal["right", "wrong", "blank", "timeout", "crashed", "out of memory"]


@dataclass(frozen=True)
class Question:
    """How one exercise was answered.

    Attributes:
      id: of the exercise, "01.attention".
      cases: name of the case → whether it counts as passed.
      mistakes: names of the known mistakes that explain the answer.
      text: all that is to be said to the learner. It reveals nothing of the hidden inputs.
    """

    id: str
    status: QuestionStatus
    points: int
    out_of: int
    cases: dict[str, bool]
    mistakes: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Row:
    """One submission.

    Attributes:
      student: who, as the layout of the files tells ("" where it does not).
      file: the notebook, relative to what was graded.
      chapter: "01", or "" where it could not be told.
      note: for a status other than "graded": why, in one line.
    """

    student: str
    file: str
    chapter: str
    status: RowStatus
    points: int
    out_of: int
    questions: tuple[Question, ...] = ()
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Row":
        """The row again. Raises TypeError or KeyError where `data` is not of `as_json`."""
        questions = tuple(Question(**{**q, "mistakes": tuple(q["mistakes"])}) for q in data["questions"])
        return cls(**{**data, "questions": questions})
