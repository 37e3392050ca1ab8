"""Expected attention's scores, against the formula position by position in float64."""

import pytest
import torch
from tiny import make_runner
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from pcbench.methods.eviction import Prompted
from pcbench.methods.expected_attention import Expected

FUTURE, SKIP, TOKENS = 9, 4, 25


def turned(model, rows, positions):
    """[H, T, D] at their positions, by the model's own code."""
    cos, sin = model.model.rotary_emb(rows, positions[None])
    return apply_rotary_pos_emb(rows[None], rows[None], cos, sin)[0][0]


def made(runner, count=TOKENS, seed=0):
    """Queries and keys before rotary embedding, with a mean, and values: [heads, T, D] each."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(4, count, 64), (2, count, 64), (2, count, 64)]
    q, k, v = (torch.randn(shape, generator=generator) for shape in shapes)
    return q + 0.7, k + 0.2, v


def expected(model, q, k, v, *, covariance, values, epsilon=0.0):
    """[Hkv, T] float64: every rotation of the future by itself."""
    count, scale = q.shape[1], 64**-0.5
    keys = turned(model, k, torch.arange(count)).double()
    unit = torch.eye(64).expand(1, 64, 64)
    # row i is the rotated unit vector i
    turns = [turned(model, unit, torch.full((64,), count + ahead))[0].double().T for ahead in range(FUTURE)]
    turn = torch.stack(turns).mean(0)
    worth = torch.zeros(2, count, dtype=torch.float64)
    for head in range(4):
        queries = q[head, SKIP:].double()
        mean = queries.mean(0)
        spread = (queries - mean).T @ (queries - mean) / len(queries)
        later, around = turn @ mean, turn @ spread @ turn.T
        for group in [head // 2]:
            scores = keys[group] @ later * scale
            if covariance:
                scores = scores + torch.stack([key @ around @ key for key in keys[group]]) * scale**2 / 2
            worth[group, SKIP:] += scores[SKIP:].softmax(-1) / 2
    worth += epsilon
    return worth * v.double().norm(dim=-1) if values else worth


def prompted(runner, q, k, v, lengths=None):
    place = torch.arange(q.shape[2])
    q, k = (torch.stack([turned(runner.model, row, place) for row in x]) for x in (q, k))
    nothing = torch.zeros(q.shape[:3])
    return Prompted(1, runner.spec, runner.ops, q, k, v, nothing, nothing, lengths, rotary=runner.rotary)


@pytest.mark.parametrize(
    "choice",
    [
        {"covariance": True, "values": True},
        {"covariance": False, "values": True},
        {"covariance": True, "values": False, "epsilon": 0.02},
    ],
)
def test_scores_are_the_formula(choice):
    runner = make_runner()
    q, k, v = made(runner)
    ours = Expected(FUTURE, SKIP, **choice)(prompted(runner, q[None], k[None], v[None]))
    truth = expected(runner.model, q, k, v, **choice)
    torch.testing.assert_close(ours[0].double(), truth, rtol=1e-3, atol=1e-6)
    assert len(truth.unique()) > TOKENS


def test_rows_of_a_batch_are_scored_by_themselves():
    runner, scores = make_runner(), Expected(FUTURE, SKIP)
    texts = [made(runner, count, seed) for seed, count in enumerate((TOKENS, 13))]
    q, k, v = (torch.nn.utils.rnn.pad_sequence([x.transpose(0, 1) for x in part], True).transpose(1, 2)
               for part in zip(*texts, strict=True))  # fmt: skip
    lengths = torch.tensor([TOKENS, 13], dtype=torch.int32)
    together = scores(prompted(runner, q, k, v, lengths))
    for row, text in enumerate(texts):
        alone = scores(prompted(runner, *(x[None] for x in text)))
        torch.testing.assert_close(together[row : row + 1, :, : lengths[row]], alone)
        assert not together[row, :, lengths[row] :].any()


def test_a_text_of_nothing_but_first_tokens_has_no_score():
    runner = make_runner()
    text = [x[None] for x in made(runner, SKIP)]
    assert Expected(FUTURE, SKIP)(prompted(runner, *text)).isnan().all()
