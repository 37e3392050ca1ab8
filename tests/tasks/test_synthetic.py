import hashlib
import re
import sys

import pytest
from real_data import smollm2_tokenizer

from pcbench.errors import ConfigError
from pcbench.models.tokens import ByteTokenizer
from pcbench.registry import task_tables
from pcbench.tasks import example, load_task, score, synthetic

TOKENIZER = ByteTokenizer()
GENERATED = [name for name, table in task_tables().items() if "files" not in table]
GRID = [f"needle/{depth}" for depth in range(0, 101, 10)]
NOISE = ["passkey", "passkey_prose", "number_string", *GRID]
NEEDLES = [*NOISE, "kv_retrieval", *(f"ruler_niah_single_{i}" for i in (1, 2, 3))]
NEEDLES += [f"ruler_niah_multikey_{i}" for i in (1, 2, 3)]
# their haystack is CPython's documentation, which changes with its version
PROSE = {"passkey_prose", *GRID, *(f"ruler_niah_{t}" for t in ("single_2", "single_3", "multikey_1"))}
PROSE |= {"ruler_niah_multivalue", "ruler_niah_multiquery"}
FROZEN = {
    "number_string": "8ae6475857f7ffb5",
    "kv_retrieval": "53b10b96a5de0c4d",
    "math_find": "a96a685a79b22939",
    "math_calc": "f95dee4e554d38c9",
    "code_run": "93cdb42ac472fb30",
    "ruler_niah_single_1": "1d8789f6453af948",
    "ruler_niah_multikey_2": "da0fcfba243a170c",
    "ruler_niah_multikey_3": "4f78a3c8c5da30ec",
    "ruler_vt": "a5f4ab0c533aff1d",
    "ruler_cwe": "0e01cfdd79064563",
    "ruler_fwe": "8b073d73949e156e",
    "passkey": "e8d6626b22edc6c6",
}
# of the documentation → of the prompts
FROZEN_PROSE = {
    "37d06970fc926e60": "84c72bb09876d17a",  # 3.11.7
    "64a4b3fd3c33d73d": "11238698d21ad4e5",  # 3.12.1
    "a68b7f5ba5e4f20a": "2d737ea3495df8c6",  # 3.13.0
}


def made(task="passkey", tokens=900, **changes):
    return example(task, TOKENIZER, **(dict(context_tokens=tokens, new_tokens=8, seed=0, index=0) | changes))


@pytest.mark.parametrize(
    ("task", "tokens"),
    [
        *[(task, n) for task in GENERATED for n in (4500, 4501, 9000)],
        *[(task, n) for task in NOISE for n in (260, 999)],
    ],
)
def test_prompts_have_exactly_the_asked_length(task, tokens):
    e = made(task, tokens)
    assert len(e.prefix) + len(e.context) + len(e.query) + e.new_tokens == tokens


@pytest.mark.parametrize("task", GENERATED)
def test_little_of_a_prompt_is_left_to_newlines(task):
    context = TOKENIZER.decode(made(task, 9000, index=4).context)
    assert len(context) - len(context.rstrip("\n")) < 300


@pytest.mark.parametrize("task", NEEDLES)
def test_the_key_is_where_the_example_says_and_nowhere_else(task):
    e = made(task, 3000)
    start, end = e.key_span
    assert e.answers[0] in TOKENIZER.decode(e.context[start:end])
    assert e.answers[0] not in TOKENIZER.decode(e.context[:start] + e.context[end:])
    assert start == 0 or TOKENIZER.decode(e.context[:start]).endswith("\n")


@pytest.mark.parametrize("task", GENERATED)
def test_prompts_are_seeded_and_differ_by_index_seed_and_length(task):
    assert made(task, 4500) == made(task, 4500)
    others = [made(task, 4500, index=1), made(task, 4500, seed=1), made(task, 4501)]
    assert len({e.sha256 for e in [made(task, 4500), *others]}) == 4
    assert len({e.id for e in [made(task, 4500), *others]}) == 4


@pytest.mark.parametrize("task", FROZEN)
def test_prompts_are_the_same_under_every_python_until_the_version_is_raised(task):
    e = made(task, 4500)
    assert (task_tables()[task]["version"], e.sha256[:16]) == (2 if task == "code_run" else 1, FROZEN[task])


def test_every_task_but_prose_is_frozen():
    assert set(GENERATED) - set(FROZEN) == PROSE


def test_prose_is_the_same_under_one_version_of_the_documentation():
    from pydoc_data.topics import topics

    read = hashlib.sha256("".join(topics[name] for name in sorted(topics)).encode()).hexdigest()[:16]
    if read not in FROZEN_PROSE:
        pytest.skip(f"no frozen prompts for the documentation of Python {sys.version.split()[0]}")
    prompts = "".join(made(task, 4500).sha256[:16] for task in sorted(PROSE))
    assert hashlib.sha256(prompts.encode()).hexdigest()[:16] == FROZEN_PROSE[read]


@pytest.mark.parametrize("task", GENERATED)
def test_prompts_name_the_documentation_they_hold(task, monkeypatch):
    version = f"pcbench/{task_tables()[task]['version']}"
    named = made(task, 4500).prompts
    assert re.fullmatch(r"\+topics-[0-9a-f]{8}" if task in PROSE else "", named.removeprefix(version))
    monkeypatch.setattr(synthetic, "_documentation", lambda: ["Another line.\n"])
    synthetic._documentation_hash.cache_clear()
    assert (made(task, 4500).prompts != named) == (task in PROSE)
    synthetic._documentation_hash.cache_clear()


@pytest.mark.parametrize("task", sorted(set(NEEDLES) - set(GRID)))
def test_needles_lie_at_all_depths(task):
    made_ones = [made(task, 2000, index=i) for i in range(200)]
    depths = [e.key_span[0] / len(e.context) for e in made_ones]
    quarters = [sum(q / 4 <= d < (q + 1) / 4 for d in depths) for q in range(4)]
    assert min(quarters) >= 25


@pytest.mark.parametrize("depth", range(0, 101, 10))
def test_a_needle_of_the_grid_lies_at_its_depth(depth):
    for index in range(20):
        e = made(f"needle/{depth}", 8000, index=index)
        start, end = e.key_span
        # at the nearest start of a line of at most 80 characters
        assert abs(start - depth / 100 * (len(e.context) - (end - start))) <= 80


@pytest.mark.parametrize("index", range(5))
@pytest.mark.parametrize(("task", "others"), [("multikey_1", 3), ("multivalue", 0), ("multiquery", 0)])
def test_scattered_needles_are_those_asked_and_the_others(task, others, index):
    e = made(f"ruler_niah_{task}", 6000, index=index)
    context, query = TOKENIZER.decode(e.context), TOKENIZER.decode(e.query)
    hidden = re.findall(r"special number for ([a-z]+-[a-z]+) is (\d{7})\.\n", context)
    assert len(hidden) == 4
    asked = [key for name, key in hidden if name in query]
    assert sorted(asked) == sorted(e.answers)
    assert len({name for name, _ in hidden}) == (1 if task == "multivalue" else 4)
    assert len(hidden) - len(asked) == others
    assert re.findall(r"[a-z]+-[a-z]+", query) == list(dict.fromkeys(re.findall(r"[a-z]+-[a-z]+", query)))


@pytest.mark.parametrize("task", GENERATED)
def test_context_characters_are_known_unless_a_character_has_several_ids(task):
    e = made(task, 6000)
    text = TOKENIZER.decode(e.context)
    assert e.context_characters == (tuple(range(6000))[: len(e.context)] if text.isascii() else None)
    real = example(task, smollm2_tokenizer(), context_tokens=6000, new_tokens=8, seed=0, index=0)
    text = smollm2_tokenizer().decode(real.context)
    assert text.isascii() <= (real.context_characters is not None)
    for token, start in list(enumerate(real.context_characters or ()))[::211]:
        assert smollm2_tokenizer().decode(real.context[token:]) == text[start:]


def test_a_length_without_room_for_the_needle_is_an_error():
    with pytest.raises(ConfigError, match=r"for task passkey, got 50; make it longer") as caught:
        made(tokens=50)
    least = int(str(caught.value).split("context_tokens: at least ")[1].split()[0])
    assert len(made(tokens=least).context) == made(tokens=least).key_span[1]


@pytest.mark.parametrize("task", GENERATED)
def test_the_least_length_that_an_error_names_is_enough(task):
    # keys of another length are drawn for another length, so once more may be needed
    tokens, asked = 20, []
    while len(asked) < 4:
        try:
            made(task, tokens)
            break
        except ConfigError as error:
            tokens = int(str(error).split("context_tokens: at least ")[1].split()[0])
            asked.append(tokens)
    assert 1 <= len(asked) < 4
    assert asked == sorted(asked)


@pytest.mark.parametrize("task", GENERATED)
def test_the_right_answer_scores_1_and_an_empty_one_0(task):
    e = made(task, 4500)
    table = load_task(task, "test")
    assert score(table, " ".join(e.answers), e.answers) == 1.0
    assert score(table, "", e.answers) == 0.0


def test_unknown_tasks_are_errors_with_a_hint():
    with pytest.raises(ConfigError, match='did you mean "passkey"'):
        load_task("passkeys", "suite")


def test_a_dataset_that_the_scorer_does_not_know_is_an_error():
    task = load_task("math_find", "test").model_copy(update={"dataset": "math_fnd"})
    with pytest.raises(
        ConfigError, match='unknown dataset of infinitebench-2024-06 "math_fnd"; did you mean "math_find"'
    ):
        score(task, "1", ["1"])


@pytest.mark.parametrize(
    ("prediction", "value"), [(" 12345.\nThe", 1.0), ("it is 12345!", 1.0), ("1234", 0.0), ("", 0.0)]
)
def test_score_by_the_tasks_scorer(prediction, value):
    task = load_task("passkey", "test")
    assert score(task, prediction, ["12345"]) == value
    assert task.scorer_id == "needle@1"


def test_an_empty_answer_is_never_found():
    assert score(load_task("passkey", "test"), "anything", [""]) == 0.0
