"""Scaled rotary frequencies inside a model: its rotary modules are others until it is detached."""

from typing import NoReturn

from pcbench.errors import ConfigError
from pcbench.methods.rope_scaling import RopeScaling
from pcbench.models.attach.handle import Attached
from pcbench.models.rotary import swap
from pcbench.models.runner import HFRunner

__all__ = ["Scaled"]


class Scaled(Attached):
    """A model with other rotary frequencies; attention and cache are its own.

    Args:
        method: its name.
        config: its resolved parameters.
        runner: the model.
    """

    def __init__(self, method: str, config: RopeScaling.Config, runner: HFRunner) -> None:
        self.config, self.modules = config, runner.with_rope(*config.rope).rope
        super().__init__(method, runner)
        swap(self.modules)

    def detach(self) -> None:
        was = self.ours
        super().detach()
        if was is not None:
            swap(self.modules, back=True)

    def report(self) -> NoReturn:
        """Nothing.

        Raises:
            ConfigError: always, as the cache is the model's own.
        """
        raise ConfigError(f"report: a method with a cache of its own, got {self.method}; ask the model's cache")
