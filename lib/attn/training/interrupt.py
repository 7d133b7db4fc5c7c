"""Stopping between two steps rather than in the middle of one."""

import signal
import threading
from types import FrameType


class StopBetweenSteps:
    """Context manager: Ctrl-C (SIGINT) or SIGTERM sets `requested` instead of raising at once.

    An interrupt that lands inside the optimiser leaves half of the weights updated; the loop asks `requested`
    after each step and stops there. A second signal raises KeyboardInterrupt at once unless `patient`:
    processes that train together must stop at the same step, and a launcher sends the signal twice.

    Outside the main thread Python allows no signal handlers, and nothing changes.
    """

    def __init__(self, patient: bool = False) -> None:
        self.requested = False
        self._patient = patient
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> "StopBetweenSteps":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        if self.requested and not self._patient:
            raise KeyboardInterrupt
        self.requested = True
