"""What of an answer is scored: models that think first answer behind `</think>`."""

__all__ = ["RULE", "opens_thought", "without_thoughts"]

# stands wherever the rule has changed what was scored; another number is another rule
RULE = "after-think@1"
OPEN, CLOSE = "<think>", "</think>"


def opens_thought(prompt: str) -> bool:
    """Whether a prompt ends inside a thought, as some chat templates leave it."""
    return prompt.rstrip().endswith(OPEN)


def without_thoughts(text: str, *, opened: bool = False) -> str:
    """What stands behind the last `</think>`, up to a `<think>` that never ends; all of a text without either.

    Args:
        text: an answer.
        opened: the prompt ended inside a thought: without `</think>` there is no answer.
    """
    _, closed, answered = text.rpartition(CLOSE)
    said, begun, _ = answered.partition(OPEN)
    if opened and not closed:
        return ""
    return said.lstrip("\n") if closed or begun else text
