"""matplotlib as it comes: settings of a person or of the working folder change no figure and stop no page."""

import logging
from contextlib import chdir
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from pcbench.errors import ConfigError

__all__ = ["load_matplotlib"]


def load_matplotlib() -> None:
    """Loads it where its own matplotlibrc is the first it finds: that of the working folder goes before all others.

    Raises:
        ConfigError: there is no folder that it can write to.
    """
    found = find_spec("matplotlib")
    assert found is not None
    assert found.origin is not None
    log = logging.getLogger("matplotlib")
    before = log.level
    # of a home folder that cannot be written it says so on two lines, and works
    log.setLevel(logging.ERROR)
    try:
        with chdir(Path(found.origin).parent / "mpl-data"):
            import_module("matplotlib")
        import_module("matplotlib.font_manager")
    except OSError as error:
        got = error.strerror or str(error)
        raise ConfigError(
            f"MPLCONFIGDIR: a folder for the fonts of figures, got {got}; name one, or by TMPDIR"
        ) from error
    finally:
        log.setLevel(before)
