"""The condition as a batch."""

import jax
import numpy as np

from tests.models.conftest import make_condition


def test_repeat_keeps_the_copies_of_a_row_together():
    condition = make_condition(0, 3, low_res=True)
    repeated = condition.repeat(2)

    def check(leaf, copies):
        assert copies.shape == (6, *leaf.shape[1:])
        for i in range(6):
            np.testing.assert_array_equal(copies[i], leaf[i // 2])

    jax.tree.map(check, condition, repeated)
    assert repeated.first_frame is not None


def test_without_text_masks_every_token_and_keeps_the_rest():
    condition = make_condition(0, 2)
    other = condition.without_text()
    assert not other.text_mask.any()
    assert other.text_mask.shape == condition.text_mask.shape
    np.testing.assert_array_equal(other.first_frame, condition.first_frame)


def test_words_that_stand_for_no_text_take_its_place():
    condition, null = make_condition(0, 2), make_condition(1, 2)
    condition = condition.replace(null_text=null.text, null_text_mask=null.text_mask)
    other = condition.without_text()
    np.testing.assert_array_equal(other.text, null.text)
    np.testing.assert_array_equal(other.text_mask, null.text_mask)
    np.testing.assert_array_equal(other.first_frame, condition.first_frame)
    assert (other.text != condition.text).any()
    # both branches of guidance are one batch, so their leaves must match
    assert jax.tree.structure(other) == jax.tree.structure(condition)


def test_passes_through_transformations():
    condition = make_condition(0, 2)
    doubled = jax.jit(lambda c: jax.tree.map(lambda x: x, c))(condition)
    np.testing.assert_array_equal(doubled.text, condition.text)
    shapes = jax.eval_shape(lambda c: c.repeat(2), condition)
    assert shapes.text.shape == (4, 5, 6)
