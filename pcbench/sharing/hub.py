"""Data sets on the Hugging Face Hub, or on whatever HF_ENDPOINT names."""

import re
from collections.abc import Sequence
from pathlib import Path

from pcbench.errors import ConfigError, shown

__all__ = ["repository", "upload"]

REPOSITORY = re.compile(r"hf:([\w.-]+/[\w.-]+)")
LOG_IN = "log in by `hf auth login`, or set HF_TOKEN to a token that may write there"


def repository(to: str) -> str:
    """ORG/NAME of `hf:ORG/NAME`.

    Raises:
        ConfigError: it is none, or the hub allows no such name.
    """
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    found = REPOSITORY.fullmatch(to)
    if not found:
        raise ConfigError(f"--to: hf:ORG/NAME, got {shown(to)}; name the data set's organisation or user, and itself")
    try:
        validate_repo_id(found[1])
    except ValueError as error:
        raise ConfigError(f"--to: a name that the hub allows, got {shown(found[1])}; {error}") from None
    return found[1]


def upload(folder: Path, names: Sequence[str], repo: str, private: bool = False) -> str:
    """One commit with some files of a folder to a data set, which is made where it is not there.

    Args:
        folder: that they lie in.
        names: of the files, as paths in it and in the data set.
        repo: ORG/NAME.
        private: of a data set that is made now; else what the account has as its default.

    Returns:
        Its address.

    Raises:
        ConfigError: the hub did not take it; nothing, or an empty data set, is there then.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError

    # also of a connection that fails; which library it comes from differs between versions
    kinds = [kind for kind in HfHubHTTPError.__mro__ if issubclass(kind, Exception)]
    http_error = next(kind for kind in kinds if kind.__name__ == "HTTPError")
    api = HfApi(library_name="pcbench")
    files = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name) for name in names]
    try:
        address = api.create_repo(repo, repo_type="dataset", exist_ok=True, private=private or None)
        api.create_commit(repo, files, commit_message="Upload of a pcbench run", repo_type="dataset")
    except (http_error, OSError, ValueError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        remedy = LOG_IN if status in (401, 403) else f"the files are in {folder}, try again with the same command"
        got = str(error).strip().partition("\n")[0].rstrip(".:;") or type(error).__name__
        raise ConfigError(f"--to: an upload to {api.endpoint}, got {got}; {remedy}") from error
    return str(address)
