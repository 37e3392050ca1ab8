"""scikit-build-core, asking for torch only where the environment that called pip has none.

Torch is several gigabytes and the extension must be built against the one that is installed, so it is no
plain build requirement.
"""

import subprocess
import sys

from scikit_build_core import build as _build
from scikit_build_core.build import *  # noqa: F403

TORCH = "torch==2.13.0"
# pip hides the outer environment behind PYTHONPATH; -E looks past it
PROBE = [sys.executable, "-E", "-c", "import importlib.util as u, sys; sys.exit(u.find_spec('torch') is None)"]


def _torch() -> list[str]:
    return [] if subprocess.run(PROBE, check=False).returncode == 0 else [TORCH]


def get_requires_for_build_wheel(config_settings=None):
    return [*_build.get_requires_for_build_wheel(config_settings), *_torch()]


def get_requires_for_build_editable(config_settings=None):
    return [*_build.get_requires_for_build_editable(config_settings), *_torch()]
