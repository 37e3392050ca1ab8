import torch

from pcbench.harness.kinds.methods.decoding import decode
from pcbench.types import Prefilled


class Counting:
    """After token n comes n + 1."""

    def step(self, prefilled, token):
        return torch.nn.functional.one_hot(token + 1, 9).float()


def answered(first, new_tokens=6, eos_ids=(), stop_ids=(), **more):
    """`first`: logits of the first token."""
    logits = torch.tensor([first])
    prefilled = Prefilled(logits=logits, state=None, kept_tokens=lambda: 0.0, kv_bytes=0, kv_bytes_predicted=0)
    tokens = decode(Counting(), prefilled, new_tokens, eos_ids, "cpu", stop_ids, **more).tokens
    assert logits.tolist() == [first]
    return tokens


ONE_THEN_TWO = [0.0, 9.0, 8.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]


def test_decode_ends_at_the_limit_or_at_any_end():
    assert answered(ONE_THEN_TWO, 3) == [1, 2, 3]
    assert answered(ONE_THEN_TWO, eos_ids=(7, 4)) == [1, 2, 3, 4]
    assert answered(ONE_THEN_TWO, eos_ids=(1,)) == [1]


def test_decode_ends_where_the_answer_is_whole():
    assert answered(ONE_THEN_TWO, is_whole=lambda tokens: sum(tokens) > 5) == [1, 2, 3]
    assert answered(ONE_THEN_TWO, is_whole=lambda tokens: True) == [1]


def test_a_tasks_own_ends_count_too_and_then_no_end_comes_first():
    assert answered(ONE_THEN_TWO, eos_ids=(7,), stop_ids=(3,)) == [1, 2, 3]
    assert answered(ONE_THEN_TWO, eos_ids=(7,), stop_ids=(1,)) == [2, 3, 4, 5, 6, 7]
    assert answered(ONE_THEN_TWO, eos_ids=(1,), stop_ids=(2, 4)) == [0, 1]
