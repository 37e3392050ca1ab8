"""What the docstring of an op must say."""

import inspect
import re

import pytest

from pcbench import reference

SECTIONS = ("Args", "Returns", "Raises", "Cost", "Source")


def sections(name):
    """Section → its text."""
    text = inspect.getdoc(getattr(reference, name))
    parts = re.split(rf"^({'|'.join(SECTIONS)}):", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("name", reference.__all__)
def test_docstring_has_every_section(name):
    assert list(sections(name)) == list(SECTIONS)
    assert all(text.strip() for text in sections(name).values())


@pytest.mark.parametrize("name", reference.__all__)
def test_every_argument_is_described_and_every_tensor_has_a_shape(name):
    described = {}
    for names, text in re.findall(
        r"^    ((?:\w+, )*\w+): (.*(?:\n {8}.*)*)", sections(name)["Args"], flags=re.MULTILINE
    ):
        described |= dict.fromkeys(names.split(", "), text)
    parameters = inspect.signature(getattr(reference, name)).parameters
    assert list(described) == list(parameters)
    for parameter in parameters.values():
        if "Tensor" in str(parameter.annotation):
            text = described[parameter.name]
            assert re.search(r"\[.*\]|as in `\w+`", text), f"{parameter.name} has no shape"


@pytest.mark.parametrize("name", reference.__all__)
def test_errors_are_named(name):
    assert re.search(r"^    \w+Error: ", sections(name)["Raises"], flags=re.MULTILINE)
