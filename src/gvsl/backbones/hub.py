"""Download of weights from the Hugging Face Hub."""

import re
from pathlib import Path
from typing import cast

from gvsl.errors import UserError

HUB_NAME = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w./-]+))?")
"""owner/name, or owner/name@revision with a branch, a tag or a commit."""


def is_hub_name(text: str) -> bool:
    """Return True if `text` has the form of a name on the Hub."""
    return HUB_NAME.fullmatch(text) is not None


def fetch_weights(name: str, files: tuple[str, ...]) -> Path:
    """Download files of a repository on the Hub, or find them in the local cache.

    Args:
        name: owner/name, or owner/name@revision.
        files: patterns of the files to fetch; nothing else is downloaded, and nothing is executed.

    Returns:
        The folder that holds them.

    Raises:
        UserError: there is no such repository, or it can't be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    found = HUB_NAME.fullmatch(name)
    if found is None:
        raise UserError(f"{name} is not a name on the Hugging Face Hub: give owner/name")
    # A broken connection raises an error of the HTTP client, which depends on the version of huggingface_hub.
    connection_error = cast(type[Exception], HfHubHTTPError.__mro__[1])
    try:
        return Path(snapshot_download(found["repo"], revision=found["revision"], allow_patterns=list(files)))
    except RepositoryNotFoundError:
        fix = "name a folder of weights, or an existing repository that you may read (hf auth login)"
        raise UserError(f"{name} is neither a folder nor a repository on the Hugging Face Hub: {fix}") from None
    except RevisionNotFoundError:
        raise UserError(f"{found['repo']} on the Hugging Face Hub has no revision {found['revision']}") from None
    except (HFValidationError, OSError, connection_error) as error:
        reason = " ".join(str(error).split()).split(". ")[0] or type(error).__name__
        raise UserError(
            f"{name} is not a local folder and could not be downloaded from the Hugging Face Hub ({reason}): "
            "name a folder of weights, or connect"
        ) from None
