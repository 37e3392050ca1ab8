"""A task of a user's own records: a JSONL file, a table beside it, refused by file, line and key."""

import json
from pathlib import Path

import pytest
from harness_suite import ACCURACY

import pcbench.harness.kinds.accuracy.group as group
from pcbench.errors import BadRecord, ConfigError, DataMissing
from pcbench.harness.runner import Options, plan, run
from pcbench.models.tokens import ByteTokenizer
from pcbench.records import read_records
from pcbench.registry import task_tables
from pcbench.report.compare.comparison import compare
from pcbench.suites import load_suite
from pcbench.tasks import example, load_task, score, size
from pcbench.tasks.own_tables import own_table

# files of records that are not called as such
FILES = {"mine.json": "mine.jsonl", "MINE.JSONL": "MINE.jsonl", "./a/mine.csv": "a/mine.jsonl"}
RECORDS = [
    {"doc": "The sky was green.", "ask": "Which colour?", "gold": ["green", "Green"]},
    {"doc": "It rained 3 days.", "ask": "How long?", "gold": 3},
]
TABLE = """
summary = "two riddles"
version = 4
template = "Text: {context}\\n{ask}\\nSay:"
scorer = "ruler"
new_tokens = 5
stop = "\\n"
chat = false
fields = { context = "doc", answers = "gold" }
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Writes mine.jsonl and, unless it is None, mine.toml into the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "answers.toml").write_text(ACCURACY)

    def write(table=TABLE, records=RECORDS, name="mine"):
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
        if table is not None:
            (tmp_path / f"{name}.toml").write_text(table)
        return f"{name}.jsonl"

    return write


def made(name, index=0, tokens=200):
    more = {"context_tokens": tokens, "new_tokens": None, "seed": 0, "index": index}
    return example(name, ByteTokenizer(), **more)


def text(ids):
    return ByteTokenizer().decode(ids)


def test_a_record_stands_in_the_template_of_its_table(mine):
    built = made(mine())
    assert text(built.prefix) == "Text: "
    assert text(built.context) == "The sky was green."
    assert text(built.query) == "\nWhich colour?\nSay:"
    assert (built.answers, built.new_tokens, built.stop_ids) == (("green", "Green"), 5, (10,))
    assert made("mine.jsonl", 1).answers == ("3",)
    assert size("mine.jsonl") == 2
    task = load_task("mine.jsonl", "here")
    assert (task.summary, task.scorer_id.partition("@")[0]) == ("two riddles", "ruler")


def test_each_answer_of_the_example_is_right():
    records = str(Path(__file__).parents[2] / "examples" / "riddles.jsonl")
    for index in range(size(records)):
        answers = made(records, index, 400).answers
        assert {answer: score(load_task(records, "here"), answer, answers) for answer in answers} == dict.fromkeys(
            answers, 1
        )


def test_without_a_table_everything_has_its_default(mine):
    built = made(mine(None, [{"context": "abc", "question": "what?", "answers": "abc"}]))
    assert text(built.context + built.query) == "abc\n\nQuestion: what?\nAnswer:"
    assert built.new_tokens == 64
    assert built.warnings == ("no chat template: asked plainly",)


def test_a_long_record_loses_its_middle_unless_the_table_forbids_it(mine):
    records = [RECORDS[0] | {"doc": "ab" * 200}]
    built = made(mine(records=records))
    # halves of equal length of what is left beside the answer
    assert len(built.prefix + built.context + built.query) == 194
    assert built.tokens_before == 425
    with pytest.raises(ConfigError, match=r"^context_tokens: at least 430 for record 0 of task mine\.jsonl, got 200"):
        made(mine(TABLE + "cuts = false\n", records))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("templat = 'x'", r'^mine\.toml: unknown key "templat"; did you mean "template"'),
        ("template = 'x'", r"^mine\.toml: template: a text with \{context\} once, got 'x'; docs/extending\.md"),
        ("stop_at = '('", r"^mine\.toml: stop_at: a regular expression \(missing \)"),
        ("scorer = 'nedle'", r'^mine\.toml: scorer: unknown scorer "nedle"; did you mean "needle"'),
        ("scorer = 'uncomp'", r'^mine\.toml: dataset: unknown dataset of uncomp "\*"'),
        ("[fields]\nquestoin = 'q'", r'^mine\.toml: fields: unknown name "questoin"; did you mean "question"'),
        ("new_tokens = 0", r"^mine\.toml: new_tokens: input should be greater than 0, got 0; docs"),
        ("[", r"^mine\.toml: a TOML file, got an error: "),
    ],
)
def test_a_wrong_table_is_one_line_by_key_path(table, message, mine):
    mine(table)
    with pytest.raises(ConfigError, match=message):
        load_task("mine.jsonl", "here")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"doc": "x", "gold": "x"}, r"^mine\.jsonl:1: ask: a value is required, got none; mend the line, or name its"),
        ({"doc": "x", "ask": [1], "gold": "x"}, r"^mine\.jsonl:1: ask: a text or a number, got \[1\]; mend"),
        ({"doc": "x", "ask": "?", "gold": [True]}, r"^mine\.jsonl:1: gold: a text or a number, got \[True\]"),
        ({"doc": "x", "ask": "?", "gold": []}, r"^mine\.jsonl:1: at least 1 answers, got 0"),
        ([1], r"^mine\.jsonl:1: input should be .*, got \[1\]"),
    ],
)
def test_a_wrong_record_is_one_line_by_file_line_and_key(record, message, mine):
    with pytest.raises(BadRecord, match=message):
        made(mine(records=[record]))


def test_records_that_are_not_there_are_missing(mine):
    with pytest.raises(DataMissing, match=r"^nowhere\.jsonl: a file, got No such file"):
        own_table(load_path := Path("nowhere.jsonl"))
    assert not load_path.exists()


def options(**changes):
    return Options(**(dict(suite="answers.toml", device="cpu", tasks=["mine.jsonl"]) | changes))


def test_a_suite_answers_the_users_records_in_place_of_its_own_tasks(mine):
    mine(), mine(name="other")
    suite = load_suite("answers.toml", "cpu", tasks=["mine.jsonl", "other.jsonl"])
    assert [(w.name, w.task) for w in suite.workloads] == [("mine", "mine.jsonl"), ("other", "other.jsonl")]
    # all records, and the table's own number of tokens
    assert {(w.prompts, w.new_tokens) for w in suite.workloads} == {(None, None)}
    planned = plan(options(sets=["suite.prompts=1"]))
    assert {prepared.cell.prompts for prepared in planned.cells} == {1}
    assert {prepared.cell.key for prepared in planned.cells} == {p.cell.key for p in plan(options()).cells}
    with pytest.raises(ConfigError, match=r"^--task: every task once, got \./mine\.jsonl twice; remove one$"):
        load_suite("answers.toml", "cpu", tasks=["mine.jsonl", "./mine.jsonl"])
    with pytest.raises(ConfigError, match=r"^--task: a suite of accuracy, got suites/prefill\.toml of kind prefill;"):
        load_suite("prefill", "cpu", tasks=["mine.jsonl"])


@pytest.mark.parametrize("place", ["sub/mine.jsonl", "longbench/mine"])
def test_two_tasks_of_one_name_are_both_named(place, mine, tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    mine(), mine(name="sub/mine")
    monkeypatch.setitem(task_tables().own, "longbench/mine", {})
    (tmp_path / "answers.toml").write_text(ACCURACY.replace("tasks =", 'benchmark = "longbench"\ntasks =', 1))
    both = rf"^--task: .*, got two tasks called mine: mine\.jsonl and {place}; rename one$"
    with pytest.raises(ConfigError, match=both):
        load_suite("answers.toml", "cpu", tasks=["mine.jsonl", place])


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("mine", r'unknown task "mine"; did you mean "mine\.jsonl"\?'),
        *[
            (name, rf"a task or a file .* that ends in \.jsonl, got {name}; make it {hint}")
            for name, hint in FILES.items()
        ],
    ],
)
def test_another_kind_of_file_is_told_what_would_be_one(name, hint, mine, tmp_path):
    mine()
    with pytest.raises(ConfigError, match=rf"^--task: .*{hint}$"):
        load_suite("answers.toml", "cpu", tasks=[name])
    (tmp_path / "answers.toml").write_text(ACCURACY.replace('"passkey"', f'"{name}"'))
    with pytest.raises(ConfigError, match=rf"^answers\.toml: suite\.tasks: .*{hint}$"):
        load_suite("answers.toml", "cpu")


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_a_file_without_a_record_is_one_line_before_anything_is_measured(text, mine, tmp_path, console):
    mine(), (tmp_path / "mine.jsonl").write_text(text)
    with pytest.raises(ConfigError, match=r"^mine\.jsonl: records, one a line, got none; docs/extending\.md says how$"):
        run(options(out=Path("one")), console)
    assert not Path("one").exists()


def test_a_line_that_is_no_json_is_mended_not_got_again(mine, tmp_path):
    mine(), (tmp_path / "mine.jsonl").write_text("{\n")
    with pytest.raises(BadRecord, match=r"^mine\.jsonl:1: JSON, got .*; mend the line$"):
        made("mine.jsonl")


def test_records_are_answered_and_checked_and_others_are_refused(mine, console):
    mine()
    folders = {}
    for name, changes in (("one", {}), ("two", {}), ("other", {"records": RECORDS[:1] * 2})):
        mine(**changes)
        folders[name] = run(options(out=Path(name)), console)[0].path
    records = read_records(folders["one"])
    assert [(r.status, r.workload, r.n_samples or len(RECORDS)) for r in records] == [("ok", "mine", 2)] * 2
    assert records[1].parity_err < records[1].parity_bound
    task = load_task("mine.jsonl", "here")
    assert {r.task.partition("+")[0] for r in records} == {"mine@4"}
    assert {r.task for r in read_records(folders["other"])} == {f"mine@{task.version}"}
    assert records[0].repro_command.count("--task mine.jsonl") == 1
    assert compare([folders["one"], folders["two"]]).exit_code() == 0
    with pytest.raises(ConfigError, match=r"^compare: the same task and version of .*, got mine@4\+.* and mine@4\+"):
        compare([folders["one"], folders["other"]])
    with pytest.raises(ConfigError, match=r"^--resume: the command that began one, got one with other tasks"):
        run(options(out=Path("one"), resume=True), console)


def test_a_table_that_changes_while_it_is_measured_ends_the_cell(mine, console, monkeypatch):
    mine()
    planned, original = load_task("mine.jsonl", "here").version, group.build_example

    def edited(prepared, tokenizer, index):
        if index == 1:
            mine(TABLE.replace("version = 4", "version = 5"))
        return original(prepared, tokenizer, index)

    monkeypatch.setattr(group, "build_example", edited)
    records = read_records(run(options(out=Path("one")), console)[0].path)
    assert {(r.status, r.task, r.score) for r in records} == {("error", f"mine@{planned}", None)}
    (reason,) = {r.reason for r in records}
    assert reason.startswith(f"mine.jsonl: mine@{planned}, with which the run began, got mine@5+")


def test_what_is_known_of_official_prompts_does_not_reach_the_users_records(mine, tmp_path, monkeypatch):
    monkeypatch.setenv("PCBENCH_DATA", str(tmp_path))
    (tmp_path / "parallelcomp-config").mkdir()
    (tmp_path / "parallelcomp-config" / "dataset2maxlen.json").write_text('{"*": 7}')
    more = {"context_tokens": 200, "new_tokens": None, "seed": 0, "index": 0}
    built = example(mine(), ByteTokenizer(), prompts="parallelcomp", **more)
    assert (built.new_tokens, built.prompts.partition("/")[0]) == (5, "own")
    planned = plan(options(suite="longbench", preset="released", model="random:llama-3-8b"))
    assert {prepared.cell.prompt_tokens for prepared in planned.cells} == {None}


def test_a_package_brings_records_of_its_own(install):
    lines = '{"context": "a", "question": "b", "answers": "c"}\n'
    install(
        "brings", {"tasks": {"asked": "brings:asked.jsonl"}}, {"brings/__init__.py": "", "brings/asked.jsonl": lines}
    )
    built = made("asked")
    assert built.id.startswith("asked@1+")
    assert text(built.context) == "a"
