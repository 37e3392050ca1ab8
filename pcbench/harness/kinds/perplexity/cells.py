"""What a cell of perplexity is besides a method at a length: windows of a text."""

from functools import cached_property
from pathlib import Path

from pcbench.harness.kinds.methods.cells import Effort, MethodCells
from pcbench.harness.kinds.methods.settings import Plan
from pcbench.registry import METHODS, load
from pcbench.system.surroundings import expanded
from pcbench.tasks.texts import Text
from pcbench.tasks.windows import Cut

__all__ = ["WindowCells"]


class WindowCells(MethodCells):
    """The cells of a suite of perplexity."""

    @cached_property
    def text(self) -> Text:
        """The suite's text.

        Raises:
            ConfigError: it cannot be read, or holds other ids than the model's.
            DataMissing: it is not there.
        """
        settings, where = self.suite.settings, f"{self.suite.where}: suite"
        option = f"{where}.token_file" if settings.token_file else f"{where}.text"
        named = settings.token_file or settings.text
        path: Path | None = expanded(named, option) if named else None
        text = Text.of(option, path, settings.token_dtype)
        text.check(self.spec.vocab, self.spec.name)
        return text

    def task(self, plan: Plan) -> tuple[str, Cut]:
        """How the windows of a length are cut; the name says what changes what is scored."""
        settings, text = self.suite.settings, self.text
        said = f"{text.name}@{text.version}/{settings.query_tokens}+{settings.scored_tokens} every {settings.stride}"
        cut = Cut(
            text=text,
            task=said,
            tokens=plan.context_tokens,
            longest=settings.longest_tokens or max(settings.context_tokens),
            scored=settings.scored_tokens,
            query=settings.query_tokens,
            stride=settings.stride,
            windows=self.prompts(plan)[0],
            whole=settings.whole_windows,
            seed=settings.seed,
        )
        return said, cut

    def effort(self, plan: Plan, prompts: int) -> Effort:
        """The first window is read twice, and those that give the loss at every position once more."""
        settings = self.suite.settings
        method = load(METHODS, "method", plan.table.method, plan.where)
        again = min(prompts, settings.whole_windows) if hasattr(method, "rows") else 0
        return Effort(device_map=settings.device_map, warmup_up_to=1 + again, rules=self.rules)

    def prompts(self, plan: Plan) -> tuple[int, str | None]:
        return min(self.suite.settings.prompts, self.limit or self.suite.settings.prompts), None
