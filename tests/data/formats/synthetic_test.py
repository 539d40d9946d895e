import numpy as np

from optembed_jax import data
from optembed_jax.data.formats import synthetic


def options(**changes):
    return data.DataOptions(synthetic_rows=20_000, synthetic_field_size=200, **changes)


def test_labels_depend_on_signal_fields_and_not_on_noise_fields():
    values, labels, truth = synthetic.generate(options())
    chance = labels.mean()

    def spread(field):
        # How far the click rates of a field's frequent values lie apart, in standard errors.
        scores = []
        for value in range(20):
            chosen = labels[values[:, field] == value]
            error = np.sqrt(chance * (1 - chance) / len(chosen))
            scores.append((chosen.mean() - chance) / error)
        return float(np.std(scores))

    found = np.array([spread(f) for f in range(values.shape[1])])
    assert truth.signal.tolist() == [True] * 4 + [False] * 4
    assert found[~truth.signal].max() < 1.6 and found[truth.signal].min() > 2.0


def test_dims_grow_and_are_zero_for_noise():
    *_, truth = synthetic.generate(options(synthetic_signal_fields=5))
    dims = truth.dims[truth.signal]
    assert dims[0] == 1 and dims[-1] == 8 and (np.diff(dims) > 0).all()
    assert (truth.dims[~truth.signal] == 0).all()


def test_frequencies_follow_zipf():
    values, _, _ = synthetic.generate(options())
    counts = np.bincount(values[:, 0], minlength=200)
    slope = np.polyfit(np.log(np.arange(1, 51)), np.log(counts[:50]), 1)[0]
    np.testing.assert_allclose(slope, -1.1, atol=0.1)


def test_true_logits_are_calibrated():
    _, labels, truth = synthetic.generate(options())
    chance = 1 / (1 + np.exp(-truth.bayes_logits))
    for low, high in ((0, 0.2), (0.2, 0.5), (0.5, 1.0)):
        chosen = (chance >= low) & (chance < high)
        np.testing.assert_allclose(labels[chosen].mean(), chance[chosen].mean(), atol=0.03)


def test_seeds(tmp_path, check_layout):
    first = data.prepare("synthetic", options(), tmp_path / "a")
    again = data.prepare("synthetic", options(), tmp_path / "b")
    other = data.prepare("synthetic", options(data_seed=1), tmp_path / "a")
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert first.path != other.path
    check_layout(first)
    assert first.facts["signal"]["noise_3"] is False
    assert first.facts["dims"]["signal_3"] == 8
