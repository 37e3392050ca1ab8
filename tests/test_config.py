import pytest
from pydantic import Field

from pcbench.config import Table, bundled, parse_value, validate
from pcbench.errors import ConfigError


class Inner(Table):
    width: int = Field(gt=0)


class Outer(Table):
    inner: Inner | None = None
    items: list[Inner] = Field(default_factory=list)
    name: str = ""


def test_validate_returns_the_table():
    outer = validate(Outer, {"inner": {"width": 3}, "name": "x"}, "file")
    assert outer.inner is not None
    assert (outer.inner.width, outer.name) == (3, "x")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"nam": "x"}, 'f.toml: t: unknown key "nam"; did you mean "name"?'),
        ({"inner": {"widht": 3}}, 'f.toml: t.inner: unknown key "widht"; did you mean "width"?'),
        ({"items": [{"width": 1}, {"wide": 1}]}, 'f.toml: t.items[1]: unknown key "wide"; did you mean "width"?'),
        ({"items": [{"width": 0}]}, "f.toml: t.items[0].width: input should be greater than 0, got 0"),
        ({"items": [{}]}, "f.toml: t.items[0].width: a value is required, got none"),
        ({"name": 3}, "f.toml: t.name: input should be a valid string, got 3"),
    ],
)
def test_validate_names_the_place_and_the_nearest_key(data, message):
    with pytest.raises(ConfigError) as caught:
        validate(Outer, data, "f.toml: t")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("data", [{"width": "x"}, {}])
def test_validate_ends_with_the_remedy_of_what_it_reads(data):
    with pytest.raises(ConfigError, match=r"a.jsonl:3: width: .*; get the file again$"):
        validate(Inner, data, "a.jsonl:3", "get the file again")


def test_validate_shows_the_head_of_a_long_value():
    with pytest.raises(ConfigError, match=r"valid integer, got 'x{79}…; see `pcbench list`") as caught:
        validate(Inner, {"width": "x" * 9999}, "t")
    assert len(str(caught.value)) < 300


def test_validate_takes_no_bool_for_a_number():
    with pytest.raises(ConfigError, match="width"):
        validate(Inner, {"width": True}, "t")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("3", 3), ("[1, 2]", [1, 2]), ("true", True), ('"a b"', "a b"), ("a/b", "a/b"), ("1e-1", 0.1), ("", "")],
        *[("[qasper, repobench-p]", ["qasper", "repobench-p"]), ("[lcc]", ["lcc"]), ("[a b]", "[a b]"), ("[]", [])],
    ],
)
def test_parse_value_reads_toml_or_text(text, value):
    assert parse_value(text) == value


@pytest.mark.parametrize("folder", ["suites", "templates"])
def test_bundled_folders_hold_files(folder):
    assert list(bundled(folder).iterdir())


@pytest.mark.parametrize("text", ["9" * 5000, "[" * 5000])
def test_a_value_beyond_toml_is_the_text_itself(text):
    assert parse_value(text) == text
