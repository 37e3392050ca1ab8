import pytest

from pcbench.tasks.thoughts import opens_thought, without_thoughts


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Date", "Date"),
        ("\nDate\n", "\nDate\n"),
        ("<think>\nAnimal or Date?\n</think>\n\nDate", "Date"),
        # the template's prompt may have opened it
        ("Animal or Date?</think>Date", "Date"),
        ("<think>a</think>no<think>b</think> 9", " 9"),
        # cut off before there was an answer
        ("<think>\nMaybe Animal or Date", ""),
        ("<think>", ""),
        ("<think>a</think>9<think>or 7", "9"),
        ("no <THINK>tag</THINK> of ours", "no <THINK>tag</THINK> of ours"),
        ("", ""),
    ],
)
def test_what_stands_behind_a_thought_is_the_answer(text, answer):
    assert without_thoughts(text) == answer
    assert without_thoughts(answer) == answer


def test_behind_a_prompt_that_opens_a_thought_an_answer_needs_its_end():
    assert opens_thought("<|assistant|>\n<think>\n")
    assert not opens_thought("<think>\n\n</think>\n\n")
    assert without_thoughts("Animal or Date", opened=True) == ""
    assert without_thoughts("Animal</think>\n\nDate", opened=True) == "Date"
