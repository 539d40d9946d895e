"""The exceptions whose message is meant for the person at the keyboard.

The message is complete: what was wrong, where (file, row, field, flag, step), and what to do about
it. A program shows that line and exits with status 2; a notebook shows it as any exception.
"""


class InputError(ValueError):
    """What the user gave cannot be used; the message says what, where, and what to do."""


class BudgetError(InputError):
    """No table fits into the budget that was given; the message says how much is needed.

    A command that ends by it has an exit status of its own, so that one that tries many budgets
    tells a budget that is too small from a mistake.
    """


class DivergedError(RuntimeError):
    """Training produced a loss that is not a finite number; the message says when."""


class CheckpointError(RuntimeError):
    """A state cannot be written, such as to a full disk; the message names the last good one."""


class Stopped(BaseException):
    """The run was asked to stop, and what it needs to go on is saved.

    Not an ``Exception``, as with ``KeyboardInterrupt``: nothing on the way may take it for a
    failure of its own and go on.
    """


class Told(UserWarning):
    """A warning that is meant for the person at the keyboard: a command shows its message alone."""
