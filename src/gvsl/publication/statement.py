"""What the owner of weights states of them, and no record knows."""

import re
from dataclasses import dataclass

from gvsl.errors import UserError

NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")


@dataclass(frozen=True)
class Statement:
    """The owner's statement.

    Raises:
        UserError: a value is not of its form.
    """

    name: str
    """USER/NAME on the Hub."""
    licence: str | None = None
    """An identifier of the Hub's, such as apache-2.0 or cc-by-nc-4.0; None if none is given."""
    data: str | None = None
    """The data that the weights were learnt from, in the owner's words."""

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name) or ".." in self.name or "--" in self.name or self.name.endswith((".", "-")):
            raise UserError(
                f"{self.name} is not a name for the Hugging Face Hub: give USER/NAME, of letters and digits"
            )
        if self.licence is not None and not LICENCE.fullmatch(self.licence):
            raise UserError(f"licence is {self.licence!r}: give an identifier, such as apache-2.0 or cc-by-nc-4.0")
