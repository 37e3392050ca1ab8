"""Methods that read a text once for several questions."""

from typing import Any, Protocol

from pcbench.types.protocols import Method, Prefilled, Prompt, Stages

__all__ = ["ContextMethod"]


class ContextMethod(Method, Protocol):
    """A method that may read what stands before a question once, for several questions."""

    def read_context(self, prompt: Prompt, stages: Stages) -> Any | None:
        """Reads prefix and context of a prompt; None where the question decides what stays of them."""
        ...

    def ask(self, read: Any, prompt: Prompt, stages: Stages) -> Prefilled:
        """As `prefill`, from what `read_context` gave for the same prefix and context, which is left as it was."""
        ...
