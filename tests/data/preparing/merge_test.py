import collections

import numpy as np
import pyarrow as pa
import pytest

from optembed_jax.data.preparing import merge
from optembed_jax.data.preparing.spill import Spill
from optembed_jax.data.raw.columns import code


def values_of(kind, rng, count):
    if kind == "hex":
        return [None if v == 3 else f"{v * 2654435761 % 2**32:08x}" for v in rng.zipf(1.3, count)]
    return [None if v == 3 else "v" * (v % 4) + str(v) for v in rng.zipf(1.3, count)]


@pytest.mark.parametrize("kinds", [("hex", "hex"), ("text", "text"), ("hex", "text")])
@pytest.mark.parametrize("at_once", [10, 150, 10**6])
@pytest.mark.parametrize(("min_count", "everything"), [(1, True), (2, False), (5, True)])
def test_merging_is_counting(tmp_path, monkeypatch, kinds, at_once, min_count, everything):
    monkeypatch.setattr(merge, "VALUES_AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    sizes = (200, 1, 300, 0)
    blocks = [values_of(kinds[n % 2], rng, size) for n, size in enumerate(sizes)]
    training = [rng.random(len(block)) < 0.7 for block in blocks]
    spill = Spill(tmp_path)
    coded = [code(pa.array(block, pa.string())) for block in blocks]
    for one, use in zip(coded, training, strict=True):
        spill.append_values([one])
        trained = np.bincount(one.codes[use], minlength=len(one.values))
        every = np.bincount(one.codes, minlength=len(one.values))
        spill.append_counts([np.stack([every, trained] if everything else [trained])])
    spill.finish()
    found = merge.merge_field(spill, 0, min_count)

    seen = collections.Counter(
        v for block, use in zip(blocks, training, strict=True) for v in np.array(block, object)[use]
    )
    deciding = collections.Counter(v for b in blocks for v in b) if everything else seen
    kept = [v for v, count in deciding.items() if count >= min_count]
    kept.sort(key=lambda v: (-deciding[v], v is None, v or ""))
    assert found.values.to_pylist() == kept
    counts = [seen[v] for v in kept]
    assert found.counts.tolist() == [sum(seen.values()) - sum(counts), *counts]
    # Every block's every value has the place of its row, or 0.
    start = 0
    for one in coded:
        places = spill.places(0, start, len(one.values))
        start += len(one.values)
        expected = [kept.index(v) + 1 if v in kept else 0 for v in one.values.to_pylist()]
        assert places.tolist() == expected
    spill.write_merged(0, found.values, found.counts)
    values, counts = spill.read_merged(0)
    assert values.equals(found.values) and counts.tolist() == found.counts.tolist()
    spill.close()
