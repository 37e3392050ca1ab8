"""Files whose prompts are no records: L-Eval's questions, SCROLLS' records of one id."""

import json
import re

import pytest
from tasks.made_records import few_shot_record, record, write

from pcbench.errors import BadData, BadRecord, ConfigError
from pcbench.models.tokens import ByteTokenizer
from pcbench.tasks import example, load_task, score, size

TOKENIZER = ByteTokenizer()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PCBENCH_DATA", str(tmp_path))
    return tmp_path


def made(name, index, tokens=60_000):
    return example(name, TOKENIZER, context_tokens=tokens, new_tokens=None, seed=0, index=index)


def texts(e):
    return [TOKENIZER.decode(ids) for ids in (e.prefix, e.context, e.query)]


def lecture(text, *questions):
    instructions, outputs = zip(*questions, strict=True)
    return {"input": text, "instructions": [*instructions], "outputs": [*outputs], "source": "x", "evaluation": "exam"}


def test_every_question_of_a_document_is_a_prompt(folder):
    write(folder, "leval/coursera", [lecture("One.", ("a?", "A"), ("b?", "BD")), lecture("Two.", ("c?", "C"))])
    assert size("leval/coursera") == 3
    found = [made("leval/coursera", i) for i in range(3)]
    assert [(texts(e)[1], e.answers) for e in found] == [("One.", ("A",)), ("One.", ("BD",)), ("Two.", ("C",))]
    assert [re.search(r"\w\?", texts(e)[2])[0] for e in found] == ["a?", "b?", "c?"]
    with pytest.raises(ConfigError, match=r"coursera.jsonl: a question below 3, got 3; lower the number of prompts"):
        made("leval/coursera", 3)


def test_science_fiction_is_asked_about_its_world_and_about_ours(folder):
    asked = "Ships sail, based on the world described in the document. Answer True or False."
    write(folder, "leval/sci_fi", [lecture("A story.", (asked, "True [fact: False]"), ("b?", "False [fact: false]"))])
    assert size("leval/sci_fi") == 4
    story, world, *rest = [made("leval/sci_fi", i) for i in range(4)]
    assert [e.answers for e in (story, world, *rest)] == [("true",), ("false",), ("false",), ("false",)]
    assert texts(story)[1] == "A story."
    assert asked in texts(story)[2]
    before, context, after = texts(world)
    assert context == asked.replace("the world described in the document", "what is so in the real world")
    assert "story" not in before + context + after
    task = load_task("leval/sci_fi", "test")
    assert [score(task, "It's False.", e.answers) for e in (story, world)] == [0.0, 1.0]


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("leval/tpo", {"outputs": ["A", "B"]}, "instructions, and as many outputs, got 1 and 2"),
        ("leval/tpo", {"instructions": [], "outputs": []}, "instructions, and as many outputs, got 0 and 0"),
        ("leval/tpo", {"instructions": "a?"}, "instructions: input should be a valid list, got 'a?'"),
        ("leval/tpo", {"outputs": ["true"]}, "answers that fit exact match, got 'true': no letter of A to D"),
        ("leval/sci_fi", {"outputs": ["True"]}, "an output as \"True [fact: False]\", got 'True'"),
        ("scrolls/qasper", {"id": 7}, "id: input should be a valid string, got 7"),
        ("scrolls/qasper", {"output_examples": []}, "an output of each example, got 0 of 1"),
    ],
)
def test_a_bad_record_is_one_prompt_and_is_named_with_its_line(folder, name, changes, reason):
    good = record(name)
    if name.startswith("leval/"):
        good |= {"instructions": ["a?", "b?"], "outputs": good["outputs"] * 2}
    path = write(folder, name, [good, record(name) | {"id": "1"} | changes])
    task = load_task(name, "test")
    first = 2 * task.times if name.startswith("leval/") else 1
    assert made(name, first - 1).answers
    assert size(name) == first + task.times
    with pytest.raises(BadRecord) as caught:
        made(name, first)
    assert str(caught.value).startswith(f"{path}:2: {reason}")


def test_a_line_that_is_no_json_is_one_prompt_and_leaves_the_others(folder):
    path = write(folder, "leval/quality", [record("leval/quality")])
    path.write_text("{\n" + path.read_text())
    assert size("leval/quality") == 2
    with pytest.raises(BadRecord, match=r"quality.jsonl:1: JSON, got "):
        made("leval/quality", 0)
    assert made("leval/quality", 1).answers == ("C. third",)
    path.write_text("")
    with pytest.raises(BadData, match=r"quality.jsonl: records, got none; get the file again"):
        made("leval/quality", 0)


def test_records_of_one_id_are_one_prompt_with_all_their_answers(folder):
    records = [few_shot_record("a", "one"), few_shot_record("b", "two"), few_shot_record("a", "three")]
    write(folder, "scrolls/narrativeqa", [*records, few_shot_record("a", "one")])
    assert size("scrolls/narrativeqa") == 2
    assert [made("scrolls/narrativeqa", i).answers for i in range(2)] == [("one", "three"), ("two",)]


def test_worked_questions_stand_between_document_and_question(folder):
    shots = {"query_examples": ["x?", "y?"], "output_examples": ["1", "2"]}
    write(folder, "scrolls/quality", [few_shot_record(context="A text.") | shots])
    e = made("scrolls/quality", 0)
    worked = "\n\nQuestion: x?\nAnswer: 1\n\nQuestion: y?\nAnswer: 2"
    assert texts(e) == ["", "A text.", f"{worked}\n\nQuestion: Which one?\nAnswer:"]
    assert e.chat is None
    assert (e.new_tokens, load_task("scrolls/qmsum", "test").new_tokens) == (64, 128)
    ends = [re.search(e.stop_at, text) for text in (" B.\n\nQuestion: z", "Question: z", "\n\n")]
    assert [end and end.end() for end in ends] == [14, None, None]


@pytest.mark.parametrize("name", ["leval/tpo", "scrolls/qasper"])
def test_missing_files_say_whose_they_are(name, capsys):
    from pcbench.cli import main

    with pytest.raises(Exception, match=r"got no such file; put it there \(from .*github.com/\w+/\w+"):
        made(name, 0)
    with pytest.raises(SystemExit):
        main(["list", "tasks", "--json"])
    assert "(no files; " in json.loads(capsys.readouterr().out)[name]
