"""What is printed is seen as it is: nothing in it is interpreted."""

import io
import json

import pytest
from rich.table import Table

from pcbench.system.terminal import Terminal, shortened, visible

HOSTILE = "\x1b[31mred\r\n\u202eover\u2028\x9b2J\udcff[/x] [bold]:smile:"
SHOWN = r"\x1b[31mred\r\n\u202eover\u2028\x9b2J\udcff[/x] [bold]:smile:"


@pytest.fixture
def terminal():
    made = Terminal(width=200)
    made.file = io.StringIO()
    return made


def test_visible_shows_what_moves_or_hides():
    assert visible(HOSTILE) == SHOWN
    assert visible("1,5 × 10 … –") == "1,5 × 10 … –"


def test_a_line_is_printed_as_it_is(terminal):
    terminal.print(HOSTILE)
    assert terminal.file.getvalue() == SHOWN + "\n"


def test_titles_columns_and_cells_are_shown_as_they_are(terminal):
    table = Table(HOSTILE, title=HOSTILE)
    table.add_row(HOSTILE)
    terminal.print(table)
    assert terminal.file.getvalue().count(SHOWN) == 3
    assert "\x1b" not in terminal.file.getvalue()


def test_data_is_json_whatever_is_in_it(terminal):
    terminal.print_data({HOSTILE: [HOSTILE, 1.5, None]})
    assert json.loads(terminal.file.getvalue()) == {HOSTILE: [HOSTILE, 1.5, None]}
    assert terminal.file.getvalue().isascii()


def test_shortened_keeps_both_ends():
    assert shortened("x" * 1800) == "x" * 1800
    assert shortened("a" + "x" * 9999 + "b") == "a" + "x" * 899 + " … " + "x" * 899 + "b"


def test_a_piece_of_a_text_keeps_its_lines_and_nothing_else_that_moves(terminal):
    terminal.print_piece("a\n\tb")
    terminal.print_piece(HOSTILE)
    assert terminal.file.getvalue() == "a\n\tb" + SHOWN.replace("\\n", "\n")
