"""The one place through which everything is printed: names and files cannot colour, move, break or hide a line."""

import json
from typing import Any
from unicodedata import category

from rich.console import Console
from rich.text import Text

__all__ = ["Terminal", "shortened", "visible"]

# controls, formats such as the overrides of a line's direction, halves of a letter, separators of lines
HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
# letters of an error, which may quote an argument of any length
LONGEST = 1800


class _Escapes(dict[int, str]):
    """Letter → itself, or its escape where it would not be seen."""

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        hidden = category(letter) in HIDDEN
        self[code] = letter.encode("unicode_escape").decode() if hidden else letter
        return self[code]


ESCAPES = _Escapes()
# of a text whose lines end where they end
OF_LINES = _Escapes({ord(letter): letter for letter in "\n\t"})


def visible(text: str) -> str:
    r"""A text on one line, all of whose letters are seen: an escape is `\x1b`, a line's end `\n`."""
    return text.translate(ESCAPES)


def shortened(text: str) -> str:
    """A text of at most `LONGEST` letters; of a longer one beginning and end."""
    half = LONGEST // 2
    return text if len(text) <= LONGEST else f"{text[:half]} … {text[-half:]}"


class Terminal(Console):
    """A console that interprets nothing of what it is given: no markup, no emoji, no controls.

    Args:
        stderr: prints there, else to stdout.
        width: columns; None takes those of the terminal.
        force_terminal: whether it is one; None finds out.
    """

    def __init__(self, *, stderr: bool = False, width: int | None = None, force_terminal: bool | None = None) -> None:
        super().__init__(
            stderr=stderr,
            width=width,
            force_terminal=force_terminal,
            # a notebook shows plain lines of a stream, too
            force_jupyter=False,
            soft_wrap=True,
            markup=False,
            emoji=False,
            highlight=False,
        )

    def render_str(self, text: str, **more: Any) -> Text:
        """What `print` and every cell of a table make of a text."""
        return super().render_str(visible(text), **more)

    def print_piece(self, text: str) -> None:
        """A piece of a text as it stands, at once: lines end and tabs stand where they do in it, nothing is added."""
        self.file.write(text.translate(OF_LINES))
        self.file.flush()

    def print_data(self, data: object) -> None:
        """JSON, in letters that every encoding has."""
        for line in json.dumps(data, indent=2, allow_nan=False).split("\n"):
            self.print(line)
