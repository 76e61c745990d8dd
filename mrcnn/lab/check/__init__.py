"""What is asked of a learner, and how an answer is judged."""

from .judge import Exercise, NotWritten, Wrong, check, close, first_difference, same_shape, verdict

__all__ = ["Exercise", "NotWritten", "Wrong", "check", "close", "first_difference", "same_shape", "verdict"]
