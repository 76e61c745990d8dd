"""Errors, and which of them are told in a sentence."""


class CheckpointError(Exception):
    """A file that cannot be written, read or used; the message is a sentence for the user."""


class TrainingError(Exception):
    """A step could not be taken, most often because a loss became NaN; names the term, the step and the pictures."""


def sentence(error: Exception) -> str | None:
    """What to tell a user, or None where only a traceback helps."""
    if isinstance(error, CheckpointError | TrainingError | ValueError | OSError | ImportError):
        return str(error)
    # What has no type of its own is known by its words. torch says "can't allocate memory" or "CUDA out of memory",
    # onnxruntime "Failed to allocate memory", gloo "Connection closed by peer".
    words = str(error)
    if "DataLoader worker" in words:
        return (
            "a process that fetches pictures was ended from outside, or for want of memory: fewer --workers need less"
        )
    if "by peer" in words:
        return "another process of this run has ended; what it said tells why"
    if isinstance(error, MemoryError) or "allocate memory" in words or "out of memory" in words:
        return "the memory is not enough: smaller pictures (--max-size) or batches, or fewer detections, need less"
    return None
