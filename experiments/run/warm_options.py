"""What a run begins with, where it is not nothing."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class WarmOptions:
    """What a run begins with.

    Attributes:
      source: the folder of the earlier run.
      keep_shape: whether its rows and dimensions stay.
      identity: of what is in the folder; None before that was read.
    """

    source: str
    keep_shape: bool = False
    identity: str | None = None

    def as_flags(self) -> dict[str, object]:
        """What decides the outcome of phases: the content, wherever it lies."""
        return {"warm_start": self.identity, "keep_shape": self.keep_shape}


NO_WARM_START = {"warm_start": None, "keep_shape": None}
"""The flags of a run without one; those of older versions have none."""
