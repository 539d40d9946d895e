"""The rows of ids that a manifest keeps, with the logits that they got when it was written.

Checksums show that files are those that were written; these show that they belong together and are
still read as they were meant. NumPy alone.
"""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from optembed_jax.serving.bundle_format import BundleError

SAMPLES = 8
"""Rows of ids in a manifest that is written."""

TOLERANCE = 1e-4
"""Largest difference in a sample's logit, relative to the larger of 1 and the logit, where both
sides compute in float32."""


def draw_samples(fields: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Ids int32 ``[SAMPLES, F]``, uniform in each field, the same ones for the same fields.

    Of fields with several values ``[SAMPLES, S]``, in the n-th row n of them, as many as there are;
    behind them the bits of weights, where values have some.
    """
    rng, sizes = np.random.default_rng(0), np.array([field["ids"] for field in fields])
    offsets = np.cumsum(sizes) - sizes
    slots = np.array([field.get("slots", 1) for field in fields])
    of_slot = np.repeat(np.arange(len(fields)), slots)
    ids = rng.integers(0, sizes[of_slot], (SAMPLES, len(of_slot))) + offsets[of_slot]
    number = np.arange(len(of_slot)) - (np.cumsum(slots) - slots)[of_slot]
    nothing = (number >= np.arange(SAMPLES)[:, None]) & (slots > 1)[of_slot]
    ids = np.where(nothing, sizes.sum(), ids).astype(np.int32)
    is_weighted = np.array([field.get("weighted", False) for field in fields], bool)[of_slot]
    weights = rng.random((SAMPLES, int(is_weighted.sum())), np.float32) * 2
    weights[nothing[:, is_weighted]] = 0
    return np.concatenate([ids, weights.view(np.int32)], axis=1)


def check_samples(
    path: pathlib.Path,
    manifest: Mapping[str, Any],
    logits_of: Callable[[np.ndarray], np.ndarray],
    tolerance: float = TOLERANCE,
) -> None:
    """Compare the logits of the manifest's samples with those that the loaded model gives.

    Args:
      path: the bundle, for messages.
      manifest: with ``samples``.
      logits_of: ids int32 ``[N, F]`` to logits ``[N]``.
      tolerance: largest difference, relative to the larger of 1 and the logit.

    Raises:
      BundleError: a logit differs, or there are no samples.
    """
    try:
        ids, expected = (np.asarray(manifest["samples"][name]) for name in ("ids", "logits"))
        if ids.dtype.kind != "i" or expected.dtype.kind != "f" or len(ids) != len(expected):
            raise ValueError(f"{ids.dtype} ids and {expected.dtype} logits")
        if not len(ids) or expected.shape != (len(ids),) or not np.isfinite(expected).all():
            raise ValueError(f"logits {expected}")
        with np.errstate(over="ignore", invalid="ignore"):  # It is what is looked for.
            found = logits_of(ids)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise BundleError(f"{path}: the manifest's samples cannot be scored: {error}") from error
    row = most_different(found, expected, tolerance)
    if row is not None:
        raise BundleError(
            f"{path} gives {found[row]:.6g} for its sample {row}, {expected[row]:.6g} when it was "
            "written: its files do not belong together, or are computed with otherwise here; "
            "export it again"
        )


def most_different(found: np.ndarray, expected: np.ndarray, tolerance: float) -> int | None:
    """The row whose logit differs most, if by more than the tolerance; what is no number does.

    Args:
      found: logits ``[N]``.
      expected: logits ``[N]``.
      tolerance: relative to the larger of 1 and the expected logit.
    """
    difference = np.abs(found - expected) / np.maximum(np.abs(expected), 1.0)
    if (difference <= tolerance).all():
        return None
    return int(np.argmax(np.where(np.isnan(difference), np.inf, difference)))
