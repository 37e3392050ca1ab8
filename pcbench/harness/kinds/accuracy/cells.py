"""What a cell of answers is besides a method at a length: how many prompts, and what they are made of."""

from typing import Any

from pcbench.errors import BadData, ConfigError, DataMissing
from pcbench.harness.kinds.methods.cells import Effort, MethodCells
from pcbench.harness.kinds.methods.settings import Plan
from pcbench.tasks import load_task, size, why_not
from pcbench.tasks.base import OwnTask
from pcbench.tasks.scorecards.published import Limits, prompt_limit

__all__ = ["AnswerCells"]


class AnswerCells(MethodCells):
    """The cells of an accuracy suite."""

    def choices(self, plan: Plan) -> dict[str, Any]:
        """What a cell's prompts are made of."""
        settings = self.suite.settings
        tokens = settings.prompt_tokens.get(plan.table.method)
        named = isinstance(tokens, str)
        limit = self._known_limit(plan, tokens) if named else tokens
        same = {name: getattr(settings, name) for name in ("templates", "chat", "chat_arguments", "thinking")}
        return {**same, "chat_date": settings.chat_date.isoformat(), "prompt_tokens": limit}

    def _known_limit(self, plan: Plan, by: Limits) -> int | None:
        """Of a user's own records nothing is known."""
        task = plan.workload.task
        if isinstance(load_task(task, plan.where), OwnTask):
            return None
        return prompt_limit(self.suite.settings.model, task, by)

    def effort(self, plan: Plan, prompts: int) -> Effort:
        return Effort(device_map=self.suite.settings.device_map, rules=self.rules)

    def prompts(self, plan: Plan) -> tuple[int, str | None]:
        """As many as the task has records; what is missing is said, the other tasks still run."""
        workload = plan.workload
        try:
            records = size(workload.task, plan.context_tokens)
        except DataMissing as error:
            return 0, str(error)
        except BadData:
            # the task's own error, which its first prompt meets
            return 0, None
        if self.spec.trained and (reason := why_not(load_task(workload.task, plan.where))):
            return 0, f"{workload.task}: {reason}"
        if records is None and workload.prompts is None:
            where = f"{self.suite.where}: suite.prompts"
            raise ConfigError(f"{where}: a number for {workload.task}, which is generated; add it")
        return min(n for n in (records, workload.prompts) if n is not None), None
