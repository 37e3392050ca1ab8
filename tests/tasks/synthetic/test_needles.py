import re
import sys
from importlib.resources import files
from types import SimpleNamespace

import pytest
from real_data import smollm2_tokenizer

from pcbench.errors import ConfigError, DataMissing
from pcbench.models.tokens import ByteTokenizer
from pcbench.registry import task_tables
from pcbench.tasks import example, load_task, score
from pcbench.tasks.synthetic import documentation

TOKENIZER = ByteTokenizer()
GENERATED = [name for name, table in task_tables().items() if "files" not in table]
GRID = [f"needle/{depth}" for depth in range(0, 101, 10)]
NOISE = ["passkey", "passkey_prose", "number_string", *GRID]
NEEDLES = [*NOISE, "kv_retrieval", *(f"ruler_niah_single_{i}" for i in (1, 2, 3))]
NEEDLES += [f"ruler_niah_multikey_{i}" for i in (1, 2, 3)]
# their haystack is CPython's documentation
PROSE = {"passkey_prose", *GRID, *(f"ruler_niah_{t}" for t in ("single_2", "single_3", "multikey_1"))}
PROSE |= {"ruler_niah_multivalue", "ruler_niah_multiquery"}
WHOLE = "ee820c5c"  # the documentation where no listed paragraph lacks, as in Python 3.9.18 to 3.13.0
# version, start of the sha256
FROZEN = {
    "number_string": (1, "8ae6475857f7ffb5"),
    "kv_retrieval": (1, "53b10b96a5de0c4d"),
    "math_find": (1, "a96a685a79b22939"),
    "math_calc": (1, "f95dee4e554d38c9"),
    "code_run": (2, "93cdb42ac472fb30"),
    "needle/0": (2, "fff2baabbb7349ca"),
    "needle/10": (2, "8a9a579a0eeaa197"),
    "needle/20": (2, "97cb67b675a805ec"),
    "needle/30": (2, "0cda662dcb07076b"),
    "needle/40": (2, "a2c782352883b7fa"),
    "needle/50": (2, "ebdaaacec17cc785"),
    "needle/60": (2, "969418836d9e20cc"),
    "needle/70": (2, "7b8f19ad671882dd"),
    "needle/80": (2, "2fcdbeb7a1ccc434"),
    "needle/90": (2, "4dd89d86d693a65f"),
    "needle/100": (2, "33539564ee8c3247"),
    "ruler_niah_single_1": (1, "1d8789f6453af948"),
    "ruler_niah_single_2": (2, "099e87d345bb3679"),
    "ruler_niah_single_3": (2, "360b4750f4d91af1"),
    "ruler_niah_multikey_1": (2, "07fd9c2b989f3c0d"),
    "ruler_niah_multikey_2": (1, "da0fcfba243a170c"),
    "ruler_niah_multikey_3": (1, "4f78a3c8c5da30ec"),
    "ruler_niah_multivalue": (2, "54b7eeb882e1562e"),
    "ruler_niah_multiquery": (2, "51b5624fcd4452ff"),
    "ruler_vt": (1, "a5f4ab0c533aff1d"),
    "ruler_cwe": (1, "0e01cfdd79064563"),
    "ruler_fwe": (1, "8b073d73949e156e"),
    "passkey": (1, "e8d6626b22edc6c6"),
    "passkey_prose": (2, "9dc17598d54e73e6"),
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


@pytest.mark.parametrize("task", GENERATED)
def test_prompts_are_the_same_under_every_python_until_the_version_is_raised(task):
    if task in PROSE and documentation.version() != WHOLE:
        pytest.skip(f"the documentation of Python {sys.version.split()[0]} lacks paragraphs of tasks/data/prose.txt")
    assert (task_tables()[task]["version"], made(task, 4500).sha256[:16]) == FROZEN[task]


def test_every_listed_paragraph_is_in_the_prose_once_and_in_order():
    names = files("pcbench").joinpath("tasks/data/prose.txt").read_text().split()
    assert len(set(names)) == len(names)
    parts = "".join(documentation.lines()).split("\n\n")
    assert parts.pop() == ""
    found = [documentation.digest(part) for part in parts]
    assert found == [name for name in names if name in set(found)]
    assert (found == names) == (documentation.version() == WHOLE)


def test_a_python_without_the_documentation_is_told_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    documentation.lines.cache_clear()
    with pytest.raises(DataMissing, match=r"pydoc_data.topics of this Python: must hold CPython's documentation, got"):
        made("passkey_prose")
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", SimpleNamespace(topics={"if": "Not a listed paragraph."}))
    with pytest.raises(DataMissing, match="got none of it"):
        made("passkey_prose")


@pytest.mark.parametrize("task", GENERATED)
def test_prompts_name_the_documentation_they_hold(task, monkeypatch):
    version = f"pcbench/{task_tables()[task]['version']}"
    named = made(task, 4500).prompts
    assert re.fullmatch(r"\+topics-[0-9a-f]{8}" if task in PROSE else "", named.removeprefix(version))
    monkeypatch.setattr(documentation, "lines", lambda: ["Another line.\n"])
    documentation.version.cache_clear()
    assert (made(task, 4500).prompts != named) == (task in PROSE)
    documentation.version.cache_clear()


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
        # at the nearest start of a line
        assert abs(start - depth / 100 * (len(e.context) - (end - start))) <= max(map(len, documentation.lines()))


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
