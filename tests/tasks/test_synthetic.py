import pytest

from pcbench.errors import ConfigError
from pcbench.models.tokens import ByteTokenizer
from pcbench.registry import task_tables
from pcbench.tasks import example, load_task, score

TOKENIZER = ByteTokenizer()


def made(task="passkey", tokens=900, **changes):
    return example(task, TOKENIZER, **(dict(context_tokens=tokens, new_tokens=8, seed=0, index=0) | changes))


@pytest.mark.parametrize("task", task_tables())
@pytest.mark.parametrize("tokens", [260, 261, 1000, 4096])
def test_prompts_have_exactly_the_asked_length(task, tokens):
    e = made(task, tokens)
    assert len(e.prefix) + len(e.context) + len(e.query) + e.new_tokens == tokens


@pytest.mark.parametrize("task", task_tables())
def test_the_key_is_where_the_example_says_and_nowhere_else(task):
    e = made(task, 3000)
    start, end = e.key_span
    assert e.answers[0] in TOKENIZER.decode(e.context[start:end])
    assert e.answers[0] not in TOKENIZER.decode(e.context[:start] + e.context[end:])
    assert start == 0 or TOKENIZER.decode(e.context[:start]).endswith("\n")


@pytest.mark.parametrize("task", task_tables())
def test_prompts_are_seeded_and_differ_by_index_seed_and_length(task):
    assert made(task) == made(task)
    others = [made(task, index=1), made(task, seed=1), made(task, tokens=901)]
    assert len({e.sha256 for e in [made(task), *others]}) == 4
    assert len({e.id for e in [made(task), *others]}) == 4


def test_needles_lie_at_all_depths():
    depths = [made(tokens=2000, index=i).key_span[0] / 2000 for i in range(200)]
    quarters = [sum(q / 4 <= d < (q + 1) / 4 for d in depths) for q in range(4)]
    assert min(quarters) >= 30


def test_a_length_without_room_for_the_needle_is_an_error():
    with pytest.raises(ConfigError, match=r"for task passkey, got 50; make it longer") as caught:
        made(tokens=50)
    least = int(str(caught.value).split("context_tokens: at least ")[1].split()[0])
    assert len(made(tokens=least).context) == made(tokens=least).key_span[1]


def test_unknown_tasks_are_errors_with_a_hint():
    with pytest.raises(ConfigError, match='did you mean "passkey"'):
        load_task("passkeys", "suite")


@pytest.mark.parametrize(
    ("prediction", "value"), [(" 12345.\nThe", 1.0), ("it is 12345!", 1.0), ("1234", 0.0), ("", 0.0)]
)
def test_score_by_the_tasks_scorer(prediction, value):
    task = load_task("passkey", "test")
    assert score(task, prediction, ["12345"]) == value
    assert task.scorer_id == "needle@1"


def test_an_empty_answer_is_never_found():
    assert score(load_task("passkey", "test"), "anything", [""]) == 0.0
