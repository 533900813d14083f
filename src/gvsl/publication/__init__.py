"""Weights for others: a folder with a model card, and its upload to the Hugging Face Hub."""

from gvsl.publication.folder import publish
from gvsl.publication.statement import Statement
from gvsl.publication.upload import upload

__all__ = ["Statement", "publish", "upload"]
