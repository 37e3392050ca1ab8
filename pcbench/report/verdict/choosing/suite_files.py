"""The commands that measure what an answer lacks, as presets of suite files."""

import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from pcbench.errors import ConfigError
from pcbench.plain_files import write_for
from pcbench.report.verdict.choosing.commands import Missing
from pcbench.suites import suite_text

__all__ = ["SuiteFiles"]


@dataclass
class SuiteFiles:
    """Suites with a preset for each command, in a folder; the commands are short.

    Args:
        folder: is made where it is not there.
        presets: suite → those that its file has.
    """

    folder: Path
    presets: dict[str, list[str]] = field(default_factory=dict)

    def command(self, missing: Missing) -> str:
        """Adds a preset to a file, and says what runs it.

        Raises:
            ConfigError: another file of that name is there, or it cannot be written.
            DiskFull: there is no room.
        """
        path = self.folder / f"{missing.suite}.toml"
        if missing.suite not in self.presets and os.path.lexists(path):
            raise ConfigError(f"--suites: a folder without {path.name}, got one in {self.folder}; name another folder")
        presets = self.presets.setdefault(missing.suite, [])
        name = f"missing{len(presets) + 1}"
        presets.append(missing.preset(name))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"--suites: a folder, got {self.folder}: {error.strerror}; name another") from error
        write_for("--suites", path, suite_text(missing.suite) + "".join(presets))
        return shlex.join([*missing.words(str(path)), "--preset", name, *missing.tasks])
