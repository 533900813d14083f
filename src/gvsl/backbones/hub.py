"""Names on the Hugging Face Hub, and the download of weights from it."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from gvsl.errors import UserError

HUB_NAME = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w./-]+))?")
"""owner/name, or owner/name@revision with a branch, a tag or a commit."""


def is_hub_name(text: str) -> bool:
    """Return True if `text` has the form of a name on the Hub."""
    return HUB_NAME.fullmatch(text) is not None


def require_hub(what: str) -> None:
    """Check that huggingface_hub is installed.

    Args:
        what: the thing that needs it, for the message.

    Raises:
        UserError: it isn't.
    """
    if find_spec("huggingface_hub") is None:
        raise UserError(f'{what} needs huggingface_hub, which is not installed: pip install "gvsl[hub]"')


def connection_errors() -> tuple[type[Exception], ...]:
    """Return what huggingface_hub raises where the Hub can't be reached, or refuses."""
    from huggingface_hub.errors import HfHubHTTPError

    # A broken connection raises an error of the HTTP client, which depends on the version of huggingface_hub.
    return OSError, cast(type[Exception], HfHubHTTPError.__mro__[1])


def reason_of(error: Exception) -> str:
    """Return the first sentence of an error's message, in one line."""
    return " ".join(str(error).split()).split(". ")[0] or type(error).__name__


def fetch_weights(name: str, files: tuple[str, ...]) -> Path:
    """Download files of a repository on the Hub, or find them in the local cache.

    Args:
        name: owner/name, or owner/name@revision.
        files: patterns of the files to fetch; nothing else is downloaded, and nothing is executed.

    Returns:
        The folder that holds them.

    Raises:
        UserError: there is no such repository, it can't be reached, or huggingface_hub is not installed.
    """
    found = HUB_NAME.fullmatch(name)
    if found is None:
        raise UserError(f"{name} is not a name on the Hugging Face Hub: give owner/name")
    require_hub(f"{name} is no local folder, and loading it from the Hugging Face Hub")

    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    known: tuple[type[Exception], ...] = (HFValidationError, *connection_errors())
    try:
        return Path(snapshot_download(found["repo"], revision=found["revision"], allow_patterns=list(files)))
    except RepositoryNotFoundError:
        fix = "name a folder of weights, or an existing repository that you may read (hf auth login)"
        raise UserError(f"{name} is neither a folder nor a repository on the Hugging Face Hub: {fix}") from None
    except RevisionNotFoundError:
        raise UserError(f"{found['repo']} on the Hugging Face Hub has no revision {found['revision']}") from None
    except known as error:
        raise UserError(
            f"{name} is not a local folder and could not be downloaded from the Hugging Face Hub ({reason_of(error)}): "
            "name a folder of weights, or connect"
        ) from None
