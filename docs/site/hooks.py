"""What the site has beyond the files in docs: pages from other folders, from notebooks and from docstrings.

MkDocs calls the functions whose names begin with `on_`; `mkdocs.yml` names this file.
"""

import ast
import base64
import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "gvsl"

ROOT_PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "LICENSE": "LICENSE.txt",
    "CITATION.cff": "CITATION.cff",
}
"""Files beside docs, and where they are on the site."""
REFERENCE = "reference"
"""The folder of the pages that are made from docstrings; the navigation names it once."""
LINK = re.compile(r"(?<=\]\()(?!\w+:|#|/)([^)\s#]+)(?=[)#])")
"""The target of a relative link or picture, without its anchor."""
CODE = re.compile(r"^(?:```.*?^```|(?: {4}|\t).*?$)", re.MULTILINE | re.DOTALL)
"""Blocks of code, whose brackets are no links."""
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
PREFERRED = ("image/png", "text/plain")
"""What is shown of an output that a notebook keeps in several forms."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that docs does not hold."""
    for source, target in ROOT_PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, target, content=_relinked(text, source, target)))
    for notebook in sorted((ROOT / "docs" / "tutorials").glob("*.ipynb")):
        _add_notebook(files, config, notebook)
    pages = []
    for name, text in sorted(_reference()):
        files.append(File.generated(config, f"{REFERENCE}/{name}.md", content=text))
        pages.append({name: f"{REFERENCE}/{name}.md"})
    config.nav = _with_reference(config.nav, pages)
    return files


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Point the links of a page in docs to where their targets are on the site."""
    source = page.file.src_uri
    return markdown if page.file.generated_by else _relinked(markdown, f"docs/{source}", source)


def _relinked(text: str, source: str, target: str) -> str:
    """Return a page whose relative links hold on the site.

    Args:
        text: of the page.
        source: its path in the repository, from which its links start.
        target: its path on the site.
    """

    def moved(link: re.Match[str]) -> str:
        found = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[1]))
        place = ROOT_PAGES.get(found) or found.removeprefix("docs/")
        place = re.sub(r"\.ipynb$", ".md", place)
        return posixpath.relpath(place, posixpath.dirname(target) or ".")

    parts, end = [], 0
    for code in CODE.finditer(text):
        parts += [LINK.sub(moved, text[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, LINK.sub(moved, text[end:])])


def _add_notebook(files: Files, config: MkDocsConfig, notebook: Path) -> None:
    """Add a notebook as a page with the outputs that it keeps, and a link to download it."""
    folder, name = "tutorials", notebook.stem
    parts = [f'<p class="download"><a href="../{notebook.name}" download>Download this page as a notebook</a></p>']
    for number, cell in enumerate(json.loads(notebook.read_text(encoding="utf-8"))["cells"]):
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(_relinked(text, f"docs/{folder}/{notebook.name}", f"{folder}/{name}.md"))
            continue
        parts.append(f"```python\n{text}\n```")
        for place, output in enumerate(cell.get("outputs", ())):
            kind, content = _shown(output)
            if kind == "image/png":
                picture = f"{name}-{number}-{place}.png"
                files.append(File.generated(config, f"{folder}/{picture}", content=base64.b64decode(content)))
                parts.append(f"![Output of the cell above]({picture})")
            elif content.strip():
                parts.append(f"``` {{ .text .output }}\n{ANSI.sub('', content).rstrip()}\n```")
    parts.insert(1, parts.pop(0))  # below the heading
    files.append(File.generated(config, f"{folder}/{name}.md", content="\n\n".join(parts)))


def _shown(output: dict[str, Any]) -> tuple[str, str]:
    """Return the kind and the content of what is shown of an output."""
    data = output.get("data", {"text/plain": output.get("text", "")})
    kind = next((kind for kind in PREFERRED if kind in data), "")
    return kind, "".join(data.get(kind, ""))


def _reference() -> Iterator[tuple[str, str]]:
    """Return a name and a page for each package, and for each module beside them, that has anything public."""
    for place in sorted(PACKAGE.iterdir()):
        modules = sorted(place.rglob("*.py")) if place.is_dir() else [place] if place.suffix == ".py" else []
        modules = [module for module in modules if module.name == "__init__.py" or not module.name.startswith("_")]
        shown = [module for module in modules if _defines(module)]
        if place.name.startswith("__") or not shown:
            continue
        about = ast.get_docstring(ast.parse(modules[0].read_text(encoding="utf-8"))) if place.is_dir() else None
        lines = [f"# gvsl.{place.stem}", *([about] if about else [])]
        yield f"gvsl.{place.stem}", "\n\n".join([*lines, *(f"::: {_dotted(module)}" for module in shown)]) + "\n"


def _defines(module: Path) -> bool:
    """Return whether a module defines anything public itself."""
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            return True
    return False


def _dotted(module: Path) -> str:
    """Return the dotted name of a module.

    >>> _dotted(PACKAGE / "geometry" / "warp.py")
    'gvsl.geometry.warp'
    """
    parts = module.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _with_reference(nav: Any, pages: list[dict[str, str]]) -> Any:
    """Return the navigation with the pages of the reference in place of its folder's name."""
    if isinstance(nav, list):
        return [_with_reference(item, pages) for item in nav]
    if isinstance(nav, dict):
        return {title: _with_reference(item, pages) for title, item in nav.items()}
    return pages if nav == f"{REFERENCE}/" else nav
