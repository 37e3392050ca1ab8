import json

import pytest

from pcbench.errors import BadData, ConfigError
from pcbench.json_text import DEPTH, parse_json


@pytest.mark.parametrize("value", [None, 1, -2.5, "ü\u001b", [], {"a": [{"b": 1}]}, 10**200])
def test_parse_json_reads_what_json_says(value):
    assert parse_json(json.dumps(value), "f") == value
    assert parse_json(f" {json.dumps(value, ensure_ascii=False)}\n", "f") == value


def test_parse_json_reads_a_letter_of_two_halves():
    assert parse_json('"\\ud83d\\ude00"', "f") == "😀"


def nested(depth):
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("", "Expecting value at character 0"),
        ('{"a": 1', "Expecting ',' delimiter at character 7"),
        ("1 2", "Extra data at character 2"),
        ("{'a': 1}", "Expecting property name enclosed in double quotes at character 1"),
        (nested(DEPTH + 1 + 1), f"nesting deeper than {DEPTH}"),
        (nested(200_000), f"nesting deeper than {DEPTH}"),
        ('{"a":' * 200_000, f"nesting deeper than {DEPTH}"),
        ("9" * 5000, "a number of 5,000 digits"),
        ("[-" + "9" * 400 + "]", "a number of 401 digits"),
        ("1e999", "1e999, which no float holds"),
        ("[NaN]", "NaN, which is no JSON number"),
        ("-Infinity", "-Infinity, which is no JSON number"),
        ('{"a": "\\ud800"}', "half of a letter (a lone surrogate)"),
        ('{"\\uDFFF": 1}', "half of a letter (a lone surrogate)"),
        ('{"a": 1, "b": 2, "a": 3}', "key 'a' twice in one object"),
        ('{"\\u001b[31m' + "x" * 200 + '": 1, "\\u001b[31m' + "x" * 200 + '": 1}', "key '\\x1b[31m" + "x" * 71 + "…"),
    ],
)
def test_parse_json_refuses_in_one_line(text, got):
    with pytest.raises(ConfigError) as error:
        parse_json(text, "file:3")
    assert str(error.value).startswith(f"file:3: JSON, got {got}")
    assert str(error.value).endswith("; mend it")
    assert str(error.value).isprintable()


def test_parse_json_takes_whatever_is_nested_as_deep_as_it_may():
    assert parse_json(nested(DEPTH + 1), "f") == json.loads(nested(DEPTH + 1))


def test_parse_json_raises_the_kind_of_its_caller():
    with pytest.raises(BadData, match=r"^f: JSON, got Expecting value at character 0; get the file again$"):
        parse_json("?", "f", error=BadData, remedy="get the file again")
