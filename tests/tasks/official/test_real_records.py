"""Records of the official files, with the official prompts; the texts stay where they are."""

import json

import pytest
from real_data import official, smollm2_tokenizer

from pcbench.tasks import bucket, example, load_task, score, size
from pcbench.tasks.scorecards.published import prompt_limit
from pcbench.tasks.scorers.gsm8k import final_number

LONGBENCH = ("multi_news", "multifieldqa_zh", "passage_retrieval_zh")
CONFIG = ("LongBench/config/dataset2prompt.json", "LongBench/config/dataset2maxlen.json")


def made(task, index=0, tokens=8192, tokenizer=None, **more):
    settings = dict(context_tokens=tokens, new_tokens=None, seed=0, index=index) | more
    return example(task, tokenizer or smollm2_tokenizer(), **settings)


def raw(e):
    """The prompt's text with special tokens in it."""
    return smollm2_tokenizer().tokenizer.decode([*e.prefix, *e.context, *e.query])


@pytest.mark.parametrize("dataset", LONGBENCH)
@pytest.mark.parametrize("index", [0, 7, 199])
def test_a_longbench_prompt_is_the_official_template_in_the_chat_template(dataset, index):
    lines, prompts, limits = official(f"LongBench/data/{dataset}.jsonl", *CONFIG)
    record = json.loads(lines.read_text(encoding="utf-8").splitlines()[index])
    asked = json.loads(prompts.read_text(encoding="utf-8"))[dataset].format(**record)
    tokenizer = smollm2_tokenizer()
    message = [{"role": "user", "content": asked}]
    whole = tokenizer.tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    e = made(f"longbench/{dataset}", index, tokens=60_000)
    assert raw(e) == whole
    assert [*e.prefix, *e.context, *e.query] == tokenizer.encode(whole)
    assert e.as_whole
    assert e.tokens_before == len(e.prefix) + len(e.context) + len(e.query)
    assert tokenizer.decode(e.context).strip() == record["context"].strip()
    assert (e.prompts, e.new_tokens) == ("official", json.loads(limits.read_text())[dataset])
    assert (e.answers, e.words) == (tuple(record["answers"]), record["length"])


@pytest.mark.parametrize("dataset", LONGBENCH)
def test_the_middle_is_cut_as_longbench_cuts_it(dataset):
    lines, prompts = official(f"LongBench/data/{dataset}.jsonl", CONFIG[0])
    tokenizer = smollm2_tokenizer()
    record = json.loads(lines.read_text(encoding="utf-8").splitlines()[0])
    asked = json.loads(prompts.read_text(encoding="utf-8"))[dataset].format(**record)
    ids = tokenizer.encode(asked)
    e = made(f"longbench/{dataset}", tokens=2000, new_tokens=64, chat="never")
    kept = [*e.prefix, *e.context, *e.query]
    # 1936 ids are kept; where their text has more, it is cut again
    half = next(n for n in range(968, 900, -1) if len(tokenizer.encode(decoded(ids[:n]) + decoded(ids[-n:]))) <= 1936)
    assert tokenizer.decode(kept) == decoded(ids[:half]) + decoded(ids[-half:])
    assert e.tokens_before == len(ids)
    assert len(kept) + e.new_tokens <= 2000
    assert len(kept) > 1930
    assert tokenizer.decode(e.query) == tokenizer.decode(
        made(f"longbench/{dataset}", tokens=60_000, chat="never").query
    )


def decoded(ids):
    return smollm2_tokenizer().decode(ids)


def test_prompt_limits_are_those_of_longbenchs_own_table():
    (path,) = official("LongBench/config/model2maxlen.json")
    for model, limit in json.loads(path.read_text()).items():
        assert prompt_limit(f"some/{model}", "longbench/qasper") == limit


def test_a_prompt_limit_counts():
    official("LongBench/data/multifieldqa_zh.jsonl")
    e = made("longbench/multifieldqa_zh", tokens=60_000, prompt_tokens=3500, chat="never")
    kept = [*e.prefix, *e.context, *e.query]
    assert e.tokens_before > 3500
    assert 3490 < len(kept) < 3510


def test_context_characters_say_where_each_token_begins():
    official("LongBench/data/multifieldqa_zh.jsonl", *CONFIG)
    e = made("longbench/multifieldqa_zh", tokens=4000)
    text = decoded(e.context)
    starts = e.context_characters
    assert len(starts) == len(e.context)
    assert list(starts) == sorted(starts)
    for token, character in list(enumerate(starts))[1::97]:
        # the first token of a character
        if starts[token - 1] < character:
            assert decoded(e.context[token:]) == text[character - starts[0] :]


@pytest.mark.parametrize("index", [0, 250, 499])
def test_a_ruler_record_is_split_into_its_lines(index):
    (path,) = official("RULER/4096/niah_multikey_3.jsonl")
    record = json.loads(path.read_text().splitlines()[index])
    e = made("ruler/niah_multikey_3", index)
    assert raw(e) == record["input"]
    assert decoded(e.prefix).count("\n") == 1
    assert decoded(e.context).count(": ") == len(record["input"].splitlines()) - 2
    assert record["outputs"][0] in decoded(e.context)
    assert decoded(e.query).endswith("mentioned in the provided text is")
    task = load_task("ruler/niah_multikey_3", "test")
    assert (e.new_tokens, score(task, f" {record['outputs'][0]}.", e.answers)) == (128, 1.0)


@pytest.mark.parametrize("index", [0, 1318])
def test_a_gsm8k_problem_is_asked_in_our_words(index):
    (path,) = official("gsm8k/test.json")
    record = json.loads(path.read_text())[index]
    e = made("gsm8k", index)
    assert decoded(e.context).strip() == record["question"].strip()
    assert e.prompts == "pcbench/2"
    right = final_number(record["answer"])
    assert score(load_task("gsm8k", "test"), f"so it is\n#### {right}", e.answers) == 1.0


def test_sizes_are_those_of_the_files():
    official(*(f"LongBench/data/{name}.jsonl" for name in LONGBENCH), "gsm8k/test.json")
    assert [size(f"longbench/{name}") for name in LONGBENCH] == [200] * 3
    assert size("gsm8k") == 1319
    assert size("passkey") is None


@pytest.mark.parametrize(
    ("words", "name"), [(0, "0-4k"), (3999, "0-4k"), (4000, "4-8k"), (7999, "4-8k"), (8000, "8k+")]
)
def test_bucket_begins_at_four_and_eight_thousand_words(words, name):
    assert bucket(words) == name
