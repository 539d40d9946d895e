import itertools

import numpy as np
import pytest

from optembed_jax.models.dlrm import DLRM

pytestmark = pytest.mark.usefixtures("strict_dtypes")


@pytest.mark.parametrize("mlp_dims", [(6, 3), ()])
def test_logits_equal_the_formula(embedded, evaluate, numpy_mlp, numpy_logit, mlp_dims):
    logits, params, stats = evaluate(DLRM(mlp_dims), embedded)
    pairs = list(itertools.combinations(range(embedded.shape[1]), 2))
    x = np.zeros((len(embedded), len(pairs)))  # None of one field: the logit is a constant.
    for number, (f, g) in enumerate(pairs):
        x[:, number] = (embedded[:, f].astype(np.float64) * embedded[:, g]).sum(axis=1)
    if mlp_dims:
        x = numpy_mlp(params["mlp"], stats["mlp"], x)
    np.testing.assert_allclose(logits, numpy_logit(params["logit"], x), rtol=1e-4, atol=1e-5)
