"""Weights by name from the Hugging Face Hub."""

import re
from pathlib import Path
from typing import cast

from gvsl.errors import UserError

HUB_NAME = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w./-]+))?")
"""owner/name, or owner/name@revision with a branch, a tag or a commit."""


def is_hub_name(text: str) -> bool:
    """Whether this can be a name on the Hub."""
    return HUB_NAME.fullmatch(text) is not None


def fetch_weights(name: str, files: tuple[str, ...]) -> Path:
    """Download files of a repository on the Hub, or find those that were downloaded before.

    Args:
        name: owner/name, or owner/name@revision.
        files: patterns of those to fetch; nothing else is downloaded, and nothing is executed.

    Returns:
        the folder that holds them.

    Raises:
        UserError: there is no such repository, or it can't be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    found = HUB_NAME.fullmatch(name)
    if found is None:
        raise UserError(f"{name} is no name on the Hugging Face Hub: it should be like owner/name")
    # A connection that breaks on the way raises an error of the HTTP client, which is not the same in all versions.
    broken = cast(type[Exception], HfHubHTTPError.__mro__[1])
    try:
        return Path(snapshot_download(found["repo"], revision=found["revision"], allow_patterns=list(files)))
    except RepositoryNotFoundError:
        mend = "name a folder of weights, or a repository that is there and that you may read (hf auth login)"
        raise UserError(f"{name} is neither a folder nor a repository on the Hugging Face Hub: {mend}") from None
    except RevisionNotFoundError:
        raise UserError(f"{found['repo']} on the Hugging Face Hub has no revision {found['revision']}") from None
    except (HFValidationError, OSError, broken) as error:
        why = " ".join(str(error).split()).split(". ")[0] or type(error).__name__
        mend = "name a folder of weights, or connect"
        raise UserError(
            f"{name} is no folder, and nothing can be had of it on the Hugging Face Hub ({why}): {mend}"
        ) from None
