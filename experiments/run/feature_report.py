"""The feature report: what each field is worth to a model, and what it costs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.run.trained import Trained
from optembed_jax.fields import Fields
from optembed_jax.search.budget import BYTES_PER_PARAMETER
from optembed_jax.table.score import ScoreState
from optembed_jax.training.feature_worth import feature_worth
from optembed_jax.training.prediction import Batches
from optembed_jax.values.unseen import unseen_rows

ROWS = 2**14
"""Validation rows on which a field's worth is measured: each field costs a pass over them."""


def measured(
    score: Callable[[Batches], tuple[np.ndarray, np.ndarray]],
    sample: Batches,
    fields: Fields,
    trained: Trained,
    seed: int,
) -> list[dict[str, Any]]:
    """Of each field what its values are worth, and how many examples have one without a row.

    Args:
      score: labels and logits of the trained model.
      sample: validation rows.
      fields: the data set's.
      trained: rows and dimensions that are kept.
      seed: of the shuffling.
    """
    batches = list(sample.epoch(0))
    ids = np.concatenate([batch.ids[batch.weights > 0] for batch in batches])
    unseen = unseen_rows(ids, fields.oov_ids, fields.slots) / len(ids)
    # Slots that no value fills hold V, which no field lacks.
    has_row = np.append(trained.rows, True)
    has_row[fields.oov_ids] = False
    without = ~has_row[ids[:, : fields.num_slots]]
    columns = [
        np.flatnonzero(fields.field_of_slot == field).tolist() for field in range(fields.num_fields)
    ]
    # Values are shuffled with their weights, which stand behind the ids.
    weighted = fields.field_of_slot[fields.weighted_slots]
    with_weights = [
        own + (fields.num_slots + np.flatnonzero(weighted == field)).tolist()
        for field, own in enumerate(columns)
    ]
    return [
        {
            "val_auc_lost": worth.auc,
            "val_logloss_gained": worth.logloss,
            "val_unseen": float(unseen[field]),
            "val_without_row": float(without[:, columns[field]].any(axis=1).mean()),
        }
        for field, worth in enumerate(
            feature_worth(score, batches, with_weights, seed, is_weighted=sample.is_weighted)
        )
    ]


def saliency(
    scores: ScoreState | None, of_rows: np.ndarray | None, fields: Fields
) -> list[dict[str, float]]:
    """Of each field its share of the saliency that the supernet gathered, where it gathers that.

    Args:
      scores: what it gathered; None for nothing.
      of_rows: the score of each row, ``[V]``; None for nothing.
      fields: the data set's.
    """
    if scores is None or of_rows is None or scores.kind != "taylor":
        return [{} for _ in fields.names]
    total = np.bincount(fields.field_of_row, np.maximum(of_rows, 0.0), fields.num_fields)
    return [{"saliency": float(share)} for share in total / max(float(total.sum()), 1e-30)]


def joined(
    fields: Sequence[Mapping[str, Any]], *parts: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """What a phase records of each field, with what was measured of it and what it costs."""
    return [
        {
            **dict(field),
            "bytes": BYTES_PER_PARAMETER * parameters_of(field),
            **{name: value for part in parts for name, value in part[number].items()},
        }
        for number, field in enumerate(fields)
    ]


def parameters_of(field: Mapping[str, Any]) -> int:
    """Numbers of the table that a phase recorded of a field; of an older version's, as they were
    before tables kept single numbers.
    """
    return int(field.get("parameters", field["rows_kept"] * field["dim"]))


def with_saliency(
    fields: Sequence[Mapping[str, Any]], supernet: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The last phase's fields with the saliency that the supernet's have, where they have it."""
    known = {field["name"]: field["saliency"] for field in supernet if "saliency" in field}
    return [
        {**dict(field), **({"saliency": known[field["name"]]} if field["name"] in known else {})}
        for field in fields
    ]


def worth_of(fields: Sequence[Mapping[str, Any]]) -> dict[str, list[float | None]]:
    """What a bundle tells of the fields of a phase, as ``Provenance.worth`` has it; nothing of a
    phase that did not measure it.
    """
    if any("val_logloss_gained" not in field for field in fields):
        return {}
    names = {"auc": "val_auc_lost", "logloss": "val_logloss_gained", "unseen": "val_unseen"}
    if all("saliency" in field for field in fields):
        names["saliency"] = "saliency"
    return {
        name: [None if f[key] is None else round(f[key], 5) for f in fields]
        for name, key in names.items()
    }
