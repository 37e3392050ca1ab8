"""Tasks with files, on made-up records."""

import json
import re

import pytest
from tasks.made_records import CONTEXT, FILE_TASKS, infinitebench_record, longbench_record, record, ruler_record, write

from pcbench.errors import BadData, BadRecord, ConfigError, DataMissing
from pcbench.models.tokens import ByteTokenizer
from pcbench.tasks import example, load_task, score, size

TOKENIZER = ByteTokenizer()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PCBENCH_DATA", str(tmp_path))
    return tmp_path


def made(name, index=0, tokens=60_000, **more):
    settings = dict(context_tokens=tokens, new_tokens=None, seed=0, index=index) | more
    return example(name, TOKENIZER, **settings)


def texts(e):
    return [TOKENIZER.decode(ids) for ids in (e.prefix, e.context, e.query)]


def put(folder, path, text):
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_text(text, encoding="utf-8")


@pytest.mark.parametrize("name", FILE_TASKS)
def test_every_task_reads_its_records_and_asks_in_our_words(name, folder):
    table, both = FILE_TASKS[name], [record(name), record(name)]
    if table.get("unit") == "id":
        both[1]["id"] = "1"
    write(folder, name, both)
    e = made(name)
    assert size(name) == 2 * table.get("times", 1)
    whole = "".join(texts(e))
    assert "{" not in whole
    assert "$" not in whole.replace("$$MASK$$", "")
    assert e.tokens_before == len(e.prefix) + len(e.context) + len(e.query) == len(whole.encode())
    assert texts(e)[1] in (CONTEXT, CONTEXT.strip(), "How many are 3 and 4?") or name == "ruler/fwe"
    assert e.prompts == ("official" if name.startswith("ruler/") else f"pcbench/{load_task(name, 'test').version}")
    assert e.new_tokens == FILE_TASKS[name]["new_tokens"]
    task = load_task(name, "test")
    right = {"gsm8k": "#### 7", "longbench-v2": "The correct answer is (C)", "infinitebench/code_debug": "B. second"}
    assert score(task, right.get(name, " ".join(e.answers)), e.answers, e.classes) > 0
    assert task.score_name


@pytest.mark.parametrize("name", FILE_TASKS)
def test_missing_files_are_named_with_their_place(name, folder):
    with pytest.raises(DataMissing) as caught:
        made(name)
    message = str(caught.value)
    assert message.startswith(f"{name}: records in {FILE_TASKS[name]['files'][0]}")
    assert f"below {folder}" in message
    assert "--set data.dir=DIR" in message
    assert ("pcbench data fetch" in message) == ("fetch" in FILE_TASKS[name])


def test_a_record_that_is_not_there_is_an_error(folder):
    write(folder, "longbench/qasper", [longbench_record()] * 2)
    with pytest.raises(ConfigError, match=r"qasper.jsonl: a record below 2, got 2; lower the number of prompts"):
        made("longbench/qasper", 2)


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("longbench/qasper", {"input": 3}, "input: input should be a valid string, got 3"),
        ("longbench/qasper", {"input": "\ud800"}, "JSON, got half of a letter (a lone surrogate)"),
        ("longbench/qasper", {"answers": None}, "answers: input should be a valid list, got None"),
        ("longbench/qasper", {"answers": []}, "at least 1 answers, got 0"),
        ("longbench/trec", {"all_classes": None}, "all_classes: the names of the classes, got none"),
        ("longbench/passage_count", {"answers": ["many"]}, "answers that fit number share, got 'many'"),
        ("longbench-v2", {"answer": "E"}, "record 1.answer: input should be 'A', 'B', 'C' or 'D', got 'E'"),
        ("gsm8k", {"answer": "#### seven"}, "record 1: answers that fit exact match, got '#### seven'"),
        ("ruler/vt", {"outputs": []}, "at least 1 answers, got 0"),
        ("infinitebench/passkey", {"answer": None}, "answer.str: input should be a valid string, got None"),
        ("infinitebench/passkey", {"answer": []}, "at least 1 answers, got 0"),
        ("infinitebench/math_find", {"input": "Which?"}, "an input that holds (The .+) of, got 'Which?'"),
        ("infinitebench/math_find", {"answer": "x"}, "answers that fit accuracy, got 'x'"),
        ("infinitebench/code_debug", {"options": ["a"]}, "4 options, got 1"),
        ("infinitebench/code_debug", {"answer": []}, "an answer that is one of ['first.one', "),
    ],
)
def test_a_bad_record_is_named_with_its_line_and_leaves_the_others(name, changes, reason, folder):
    path = folder / FILE_TASKS[name]["files"][0].replace("*", "4096")
    records = [record(name), record(name) | changes]
    path.parent.mkdir(parents=True)
    texts = [json.dumps(x) for x in records]
    path.write_text(f"[{','.join(texts)}]" if path.suffix == ".json" else "\n\n".join(texts))
    assert made(name).answers
    with pytest.raises(BadRecord) as caught:
        made(name, 1)
    place = "" if path.suffix == ".json" else ":3"
    assert str(caught.value).startswith(f"{path}{place}: {reason}")
    assert str(caught.value).endswith("; get the file again")


def test_the_message_of_a_bad_record_is_not_the_record(folder):
    write(folder, "longbench/qasper", [longbench_record() | {"context": ["word"] * 9999}])
    with pytest.raises(BadRecord, match=r"context: input should be a valid string, got \['word', .*…; get") as caught:
        made("longbench/qasper")
    assert len(str(caught.value)) < 300 + len(str(folder))


LIMITS = "LongBench/config/dataset2maxlen.json"


@pytest.mark.parametrize("limit", ["many", 0, -3, 1.5, True, None, [64]])
def test_a_limit_that_is_no_number_of_tokens_is_an_error(folder, limit):
    write(folder, "longbench/qasper", [longbench_record()])
    put(folder, LIMITS, json.dumps({"qasper": limit}))
    with pytest.raises(BadData, match=r"dataset2maxlen.json: a number of tokens for qasper, got .*; get the file"):
        made("longbench/qasper")
    assert made("longbench/qasper", new_tokens=5).new_tokens == 5


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("longbench/qasper", LIMITS),
        ("longbench/qasper", "LongBench/config/dataset2prompt.json"),
        ("infinitebench/passkey", "InfiniteBench/src/prompt.py"),
        ("longbench-v2", "LongBench-v2/prompts/0shot.txt"),
    ],
)
def test_an_official_text_that_cannot_be_read_is_an_error_in_one_line(folder, name, path):
    write(folder, name, [record(name)])
    put(folder, path, "")
    (folder / path).write_bytes(b'{"qasper": "\xff {context}"}')
    with pytest.raises(BadData, match=r": text in UTF-8, got byte 0xff at 12; save it as UTF-8"):
        made(name)
    # a file that no one can read, not even root
    (folder / path).unlink()
    (folder / path).symlink_to("/proc/self/mem")
    with pytest.raises(BadData, match=r": a file that can be read, got Input/output error; get the file again"):
        made(name)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"other": "{context}"}', '{"qasper": 3}', '{"qasper": "no place"}', "[" * 99_999]
)
def test_official_prompts_that_are_none_are_an_error(folder, text):
    write(folder, "longbench/qasper", [longbench_record()])
    put(folder, "LongBench/config/dataset2prompt.json", text)
    with pytest.raises(BadData, match=r"dataset2prompt.json: .*; get the file again") as caught:
        made("longbench/qasper")
    assert "\n" not in str(caught.value)


def test_blank_lines_are_no_records(folder):
    path = write(folder, "longbench/qasper", [longbench_record()])
    path.write_text(f"\n{path.read_text()}\n\n{path.read_text()}")
    assert size("longbench/qasper") == 2
    assert made("longbench/qasper", 1).words == 5000


def test_prompts_and_limits_are_the_official_ones_where_they_are(folder):
    write(folder, "longbench/qasper", [longbench_record("A. B.")])
    put(folder, "LongBench/config/dataset2prompt.json", json.dumps({"qasper": "Read {x}: {context} | {input}?"}))
    put(folder, "LongBench/config/dataset2maxlen.json", json.dumps({"qasper": 77}))
    with pytest.raises(ConfigError, match=r"a template with input, got \{x\}"):
        made("longbench/qasper")
    put(folder, "LongBench/config/dataset2prompt.json", json.dumps({"qasper": "Read: {context} | {input}?"}))
    e = made("longbench/qasper")
    assert (texts(e), e.prompts, e.new_tokens) == (["Read: ", "A. B.", " | Who asks??"], "official", 77)
    assert made("longbench/qasper", prompts="pcbench").prompts == "pcbench/1"
    assert made("longbench/qasper", new_tokens=5).new_tokens == 5


def test_official_prompts_that_are_asked_for_and_not_there_are_an_error(folder):
    write(folder, "longbench/qasper", [longbench_record()])
    with pytest.raises(
        DataMissing,
        match=r'prompts in LongBench/config/dataset2prompt.json below .*, got none; .* templates = "pcbench"',
    ):
        made("longbench/qasper", prompts="official")
    write(folder, "gsm8k", [record("gsm8k")])
    with pytest.raises(DataMissing, match="official prompts of a task that has them in a file, got none"):
        made("gsm8k", prompts="official")
    with pytest.raises(ConfigError, match="passkey: templates and chat of tasks with files, got official"):
        made("passkey", prompts="official")


def test_the_split_prompts_of_parallelcomp_are_read(folder):
    write(folder, "longbench/qasper", [longbench_record("A. B.")])
    for kind, text in (("context", "Read {context}."), ("quesiton", "\nNow {input}")):
        put(folder, f"parallelcomp-config/dataset2prompt_{kind}.json", json.dumps({"qasper": text}))
    put(folder, "parallelcomp-config/dataset2maxlen.json", json.dumps({"qasper": 31}))
    e = made("longbench/qasper", prompts="parallelcomp")
    assert (texts(e), e.prompts, e.new_tokens) == (["Read ", "A. B.", ".\nNow Who asks?"], "parallelcomp", 31)
    put(folder, "parallelcomp-config/dataset2prompt_raw.json", json.dumps({"qasper": "All {context} {input}"}))
    e = made("longbench/qasper", prompts="parallelcomp-raw")
    assert (texts(e), e.prompts, e.new_tokens) == (["All ", "A. B.", " Who asks?"], "parallelcomp-raw", 31)


def test_infinitebench_prompts_are_read_from_python_without_running_it(folder):
    write(folder, "infinitebench/passkey", [infinitebench_record("passkey", "A. B.")])
    put(
        folder,
        "InfiniteBench/src/prompt.py",
        'raise SystemExit\nother = {"passkey": 1}\nyarn_mistral_templates = {"passkey": "See {context} {input}"}\n',
    )
    e = made("infinitebench/passkey")
    assert (texts(e), e.prompts) == (["See ", "A. B.", " Which one?"], "official")
    put(folder, "InfiniteBench/src/prompt.py", "yarn = {}\n")
    with pytest.raises(ConfigError, match=r"prompt.py: a table yarn_mistral_templates, got none"):
        made("infinitebench/passkey")


@pytest.mark.parametrize(
    ("dataset", "template", "asked", "answers"),
    [
        ("code_run", "{func} {context} {func_call}", "func_12 X func_12(-3)", ("-4",)),
        ("math_find", "{prefix} {context}", "What is the second largest number in the following list? X", ("7.5",)),
        ("math_calc", "{context} =", "X =", ("3", "4")),
        (
            "longbook_choice_eng",
            "{context} {question} {OPTION_A} {OPTION_D}",
            "X Which one? first.one fourth",
            ("third", "C"),
        ),
        ("code_debug", "{context} {OPTION_B}", "X second", ("second", "B")),
        ("longdialogue_qa_eng", "$$MASK$$ {context}?", "$$MASK$$ X?", ("ANNA", "Ann")),
    ],
)
def test_infinitebench_templates_have_their_fields(folder, dataset, template, asked, answers):
    write(folder, f"infinitebench/{dataset}", [infinitebench_record(dataset, "X")])
    put(folder, "InfiniteBench/src/prompt.py", f"yarn_mistral_templates = { ({dataset: template})!r}\n")
    e = made(f"infinitebench/{dataset}")
    assert ("".join(texts(e)), e.answers) == (asked, answers)


def test_longbench_v2_fills_its_own_placeholders(folder):
    write(folder, "longbench-v2", [record("longbench-v2")])
    put(folder, "LongBench-v2/prompts/0shot.txt", "<t>\n$DOC$\n</t>\n$Q$ (A) $C_A$ (D) $C_D$\n")
    e = made("longbench-v2")
    assert texts(e) == ["<t>\n", CONTEXT.strip(), "\n</t>\nWhich? (A) first.one (D) fourth\n"]
    assert (e.prompts, e.answers) == ("official", ("C",))


def test_ruler_takes_the_longest_file_that_fits(folder):
    for length in (4096, 8192):
        write(folder, "ruler/vt", [ruler_record(1, f"{length}")] * (length // 1024), str(length))
    assert [texts(made("ruler/vt", tokens=n))[1] for n in (4096, 8191, 8192, 20_000)] == [
        "4096",
        "4096",
        "8192",
        "8192",
    ]
    assert [size("ruler/vt"), size("ruler/vt", 8192)] == [4, 8]
    with pytest.raises(DataMissing, match=r"ruler/vt: records of at most 4000 tokens, got 4096, 8192 in "):
        made("ruler/vt", tokens=4000)


def test_a_ruler_record_that_is_too_long_is_an_error_and_not_cut(folder):
    write(folder, "ruler/vt", [ruler_record(1)], "4096")
    whole = len(record("ruler/vt")["input"].encode())
    assert made("ruler/vt", tokens=whole + 30).tokens_before == whole
    message = (
        rf"context_tokens: at least {whole + 30} for record 0 of task ruler/vt, got {whole + 29}; take a file made"
    )
    with pytest.raises(ConfigError, match=message):
        made("ruler/vt", tokens=whole + 29)


def test_ruler_adds_the_start_of_the_answer_that_newer_files_hold_apart(folder):
    newer = ruler_record(3, "A. B.") | {"answer_prefix": " Answer:"}
    write(folder, "ruler/qa_1", [newer])
    assert texts(made("ruler/qa_1")) == ["Remember this.\n", "A. B.", "\nAnswer it.\n\nWhat is it? It is Answer:"]


def test_few_shot_and_code_datasets_of_longbench_are_not_wrapped(folder):
    bare = {name for name, table in FILE_TASKS.items() if name.startswith("longbench/") and not table["chat"]}
    assert bare == {f"longbench/{name}" for name in ("trec", "triviaqa", "samsum", "lsht", "lcc", "repobench-p")}
    same = {name: table for name, table in FILE_TASKS.items() if name.startswith("longbench-e/")}
    assert len(same) == 13
    for name, table in same.items():
        like = FILE_TASKS[name.replace("longbench-e/", "longbench/")]
        assert table["files"] == [like["files"][0].replace(".jsonl", "_e.jsonl")]
        differs = {key for key in like if like[key] != table[key]}
        assert differs == {"files", "summary"}


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("3 and 4\n#### 7 apples\n#### 8\n", "3 and 4\n#### 7 apples\n"),
        ("#### Step 1\n3 and 4\n####\n**7**\nmore", "#### Step 1\n3 and 4\n####\n**7**\n"),
        ("#### \u2212$7\n", "#### \u2212$7\n"),
        ("#### 7", None),
        ("7\n8\n", None),
    ],
)
def test_an_answer_to_gsm8k_ends_after_the_line_of_its_first_number(folder, text, end):
    write(folder, "gsm8k", [record("gsm8k")])
    found = re.search(made("gsm8k").stop_at, text)
    assert (text[: found.end()] if found else None) == end


def test_samsum_ends_at_a_newline(folder):
    for name in ("longbench/samsum", "longbench-e/samsum", "longbench/qasper"):
        write(folder, name, [record(name)])
    assert [made(name).stop_ids for name in ("longbench/samsum", "longbench-e/samsum")] == [(10,), (10,)]
    assert made("longbench/qasper").stop_ids == ()
