"""The upload of a folder to the Hugging Face Hub."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gvsl.backbones.hub import connection_errors, reason_of, require_hub
from gvsl.errors import UserError
from gvsl.publication.folder import PUBLISHED

OWN_FILES = {".gitattributes"}
"""Files that the Hub itself puts into a new repository."""
UNKNOWN, FORBIDDEN = 401, 403
"""HTTP statuses of a token that is missing or not known, and of one that may not do this."""


def upload(folder: Path, name: str, *, public: bool = False, update: bool = False) -> str:
    """Upload the files of a folder as one commit, and return the repository's address.

    Args:
        folder: that `gvsl.publication.publish` wrote.
        name: USER/NAME; the repository is created if there is none.
        public: let everybody read a new repository; an existing one keeps its visibility.
        update: replace the published files of a repository that has files; its history keeps them.

    Raises:
        UserError: huggingface_hub is not installed, the repository has files and `update` is not set, or the Hub
            can't be reached, does not know the token or refuses.
    """
    require_hub("gvsl push")
    from huggingface_hub import HfApi

    api = HfApi()
    with _explained(name):
        address = api.create_repo(name, private=not public, exist_ok=True)
        present = set(api.list_repo_files(name)) - OWN_FILES
        if present and not update:
            raise UserError(f"{name} is on the Hub already, with {len(present)} files: name another, or give --update")
        old = sorted(present & set(PUBLISHED) - {path.name for path in folder.iterdir()})
        api.upload_folder(
            repo_id=name, folder_path=folder, commit_message="Weights by gvsl push", delete_patterns=old or None
        )
    return str(address)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn the errors of huggingface_hub into a user's, in one line with the fix."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    known: tuple[type[Exception], ...] = (LocalTokenNotFoundError, HFValidationError, ValueError, *connection_errors())
    try:
        yield
    except known as error:
        answer = error.response if isinstance(error, HfHubHTTPError) else None
        status = None if answer is None else answer.status_code
        if isinstance(error, LocalTokenNotFoundError) or status == UNKNOWN:
            fix = "log in by `hf auth login`, or set HF_TOKEN to a token that may write"
            raise UserError(f"the Hugging Face Hub does not know you, so {name} can't be written: {fix}") from None
        if status == FORBIDDEN:
            fix = "take one that may write there (hf auth login), or another USER"
            raise UserError(f"your token for the Hugging Face Hub may not write to {name}: {fix}") from None
        if answer is not None or isinstance(error, ValueError):
            raise UserError(f"the Hugging Face Hub refuses {name}: {reason_of(error)}") from None
        fix = "connect and push again, or write the folder alone with --out FOLDER"
        raise UserError(f"the Hugging Face Hub can't be reached for {name} ({reason_of(error)}): {fix}") from None
