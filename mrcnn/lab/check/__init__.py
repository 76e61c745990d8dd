"""What is asked of a learner, and how an answer is judged."""

from .compare import Wrong, close, difference, first_difference
from .exercise import Exercise, KernelExercise, Launch, Out, exercise
from .judge import check, verdict, whose
from .kernels import Runner

__all__ = [
    "Exercise", "KernelExercise", "Launch", "Out", "Runner", "Wrong", "check", "close", "difference", "exercise",
    "first_difference", "verdict", "whose",
]  # fmt: skip
