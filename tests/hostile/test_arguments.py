"""Every command × arguments that nobody means: one line and an exit code, whatever they are."""

import pytest
from hostile.guard import check, search, sized
from hypothesis import strategies as st

HOSTILE = (
    *("", " ", "-", "--", "-1", "0", "nan", "-inf", "1e999", "9" * 4000, "²", "0x10", "1_000", "null", "None"),
    *(
        "\x1b[31mred\x1b[0m",
        "a\nb\r\nc",
        "\u202eevil\u2066",
        "\x00",
        "\x9b2J",
        "\u2028",
        "\udcff\udc80",
        "e\u0301",
        "🏳️‍🌈",
    ),
    *("[/x]", "[bold]", "{0}", "{x!r:>99999999}", "%s%n", "$(id)", "`id`", "=cmd()", "<script>", "'\"", "\\"),
    *("~nobody-of-this-name", "~", "/", "..", "/dev/null", "/dev/zero", "/proc/self/mem", "x" * 300, "x/" * 3000),
    *("http://127.0.0.1:9/x", "../../etc/passwd", "con", "a" * 100_000),
)
WORDS = st.sampled_from(HOSTILE) | st.text(max_size=30) | st.integers().map(str) | st.floats().map(str)

KEYS = (
    *(
        "suite",
        "suite.",
        ".suite",
        "suite.repeats",
        "suite.context_tokens",
        "suite.workloads",
        "suite.kind",
        "suite.seed",
    ),
    *("suite.timeout_s", "suite.relative_error", "suite.model", "cell.parallel_comp.keep", "cell.parallel_comp.config"),
    *("cell.parallel_comp.evict", "cell.parallel_comp.calibration", "cell.full.backend", "cell.nobody.keep", "cell"),
    *(
        "workload.passkey.prompts",
        "workload.prose.context_tokens",
        "workload",
        "data.dir",
        "data",
        "a.b.c.d.e",
        "=",
        "[",
        '"',
    ),
)
VALUES = (
    *("{", "[", "[" * 500, "[" * 500 + "]" * 500, "{a=" * 300 + "1" + "}" * 300, '"', "'''", '"\\ud800"', '"\\u0000"'),
    *(
        "{keep=1}",
        "{keep={keep=1}}",
        "[1,",
        "[{}]",
        "[[1]]",
        "1979-05-27T07:32:00",
        "true",
        "-0.0",
        "1e400",
        "9" * 5000,
    ),
    *("inf", "nan", "1_0", "0b1", "[1, 'a']", "[-1]", "[0]", "[1.5]", "{}", "[]", '""', "a = 1", "1 # x", "1\n[suite]"),
)
SETS = st.builds("{}={}".format, st.sampled_from(KEYS) | WORDS, st.sampled_from(VALUES) | WORDS) | WORDS

PLAN = ("run", "--dry-run", "--device", "cpu")
# in the place of None goes a word
COMMANDS = (
    *((None,), ("list", None), ("data", None), ("data", "fetch", None), ("data", "list", None), ("doctor", None)),
    *(("check", "--device", None), ("check", "--device", "cpu", "--op", None), ("report", None)),
    *(("report", None, "--out", None), ("compare", None), ("compare", None, None, "--fail-on", None)),
    *(("compare", None, None, "--markdown", None, "--json"), ("score", None, "--benchmark", None)),
    *(("choose", None), ("choose", ".", "--memory", None), ("choose", ".", "--context", None)),
    *(("score", ".", "--benchmark", "longbench", "--scorer", None), ("score", ".", "--benchmark", "ruler", None)),
    *(("score", ".", "--benchmark", "infinitebench", "--against", None), (*PLAN, "--suite", None)),
    *((*PLAN, "--suite", "prefill", flag, None) for flag in ("--preset", "--model", "--method", "--limit", "--set")),
    *((*PLAN, "--suite", "kernels", flag, None) for flag in ("--preset", "--method", "--limit", "--set")),
    *(("run", "--dry-run", "--suite", "prefill", "--device", None), (*PLAN, "--suite", "longbench", "--preset", None)),
    ("run", "--suite", "prefill", "--device", "cpu", "--resume", "--out", None),
    *(("calibrate", "--model", "random:tiny", flag, None) for flag in ("--matrix", "--text")),
    *(("ask", None, "why?"), ("ask", ".", None), ("ask", "x.txt", "why?", "--set", None)),
)
# they would do what they say: measure for long, or ask the net
MEANT = {"auto", "cpu", "longbench", "longbench-v2", "infinitebench", "gsm8k", "--traceback"}


@pytest.fixture(autouse=True)
def apart(tmp_path_factory, monkeypatch):
    """A folder of its own, no net, and an environment that is put back."""
    monkeypatch.chdir(tmp_path_factory.mktemp("apart"))
    monkeypatch.setenv("PCBENCH_DATA", "data")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@st.composite
def lines(draw):
    """A command with hostile words in its places, at times one of them again."""
    words = [draw(WORDS.filter(lambda word: word not in MEANT)) if word is None else word for word in draw(PLACES)]
    if draw(st.booleans()) and len(words) > 2:
        at = draw(st.integers(1, len(words) - 1))
        words += words[at - 1 : at + 1]
    return words


PLACES = st.sampled_from(COMMANDS)


@sized(150, 4000)
def test_hostile_arguments(examples):
    # only a plan has a place for a word that may be right; -- says that no options follow
    def case(words):
        check("arguments", words, (0, 2) if {"--dry-run", "--"} & {*words} else (2,))

    search(lines(), examples, case)


@sized(150, 3000)
def test_hostile_settings(examples):
    def case(settings):
        words = [word for text in settings for word in ("--set", text)]
        ended = check("settings", [*PLAN, "--suite", "prefill", "--preset", "quick", *words])
        assert ended.code == 2 or ended.out.endswith("nothing was measured\n")

    search(st.lists(SETS, min_size=1, max_size=3), examples, case)


@pytest.mark.parametrize("word", HOSTILE)
def test_every_hostile_word(word):
    """In the place of a name, of a file and of a setting."""
    for command in (("list", None), ("score", None, "--benchmark", "longbench"), ("check", "--op", None)):
        # -- says that no options follow
        codes = (0,) if (command[0], word) == ("list", "--") else (2,)
        check("arguments", [word if place is None else place for place in command], codes)


@pytest.mark.parametrize("keys", [("text",), ("token_file", "token_dtype=uint16")])
def test_every_hostile_word_as_a_text(keys):
    """A file that is read before a model is; without a name it is the documentation."""
    key, *more = keys
    told = [word for text in more for word in ("--set", f"suite.{text}")]
    plan = (*PLAN, "--suite", "perplexity", "--model", "random:tiny", "--method", "full", *told)
    for word in HOSTILE:
        check("settings", [*plan, "--set", f"suite.{key}={word}"], (2,) if word or more else (0,))
