"""What a run begins with, where it is not nothing."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class WarmOptions:
    """What a run begins with.

    Attributes:
      source: the folder of the earlier run, or a bundle.
      keep_shape: whether its rows and dimensions stay.
      row_memory: how much of what its rows scored counts when rows are chosen, in [0, 1).
      identity: of what is in the folder; None before that was read.
    """

    source: str
    keep_shape: bool = False
    row_memory: float = 0.0
    identity: str | None = None

    def as_flags(self) -> dict[str, object]:
        """What decides the outcome of phases: the content, wherever it lies."""
        remembered = self.row_memory or None  # Which is what older versions recorded: nothing.
        return {
            "warm_start": self.identity,
            "keep_shape": self.keep_shape,
            "row_memory": remembered,
        }

    def given(self) -> dict[str, object]:
        """The flags as a command line gives them."""
        return {
            "warm_start": self.source,
            "keep_shape": self.keep_shape,
            "row_memory": self.row_memory,
        }


NO_WARM_START = {"warm_start": None, "keep_shape": None, "row_memory": None}
"""The flags of a run without one; those of older versions have none."""
