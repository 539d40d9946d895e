import jax
import numpy as np

from optembed_jax.search.host_random import generator


def test_the_key_decides_every_draw():
    def draw(key):
        return generator(key).random(4)

    key = jax.random.key(3)
    np.testing.assert_array_equal(draw(key), draw(jax.random.key(3)))
    others = [jax.random.key(4), *jax.random.split(key), jax.random.fold_in(key, 7)]
    drawn = [draw(key).tolist(), *(draw(other).tolist() for other in others)]
    assert len({tuple(row) for row in drawn}) == 5
