"""A hook of MkDocs: pages that lie elsewhere in the repository, and links that hold in both places.

Tutorials are the scripts of `examples/`, evidence the READMEs and tables beside the code that makes them. They become
pages at the same path as in the repository; what lies in `docs/` loses that prefix. Links are written as they hold in a
checkout. What they lead to is put on the site if it is a file, and named without a link if it is a folder without one.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "examples/README.md",
    "examples/*.py",
    "benchmarks/README.md",
    "benchmarks/results/*.md",
    "experiments/*/README.md",
    "experiments/*/data/README.md",
    "experiments/pocket_model/CARD.md",
)
LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")


def notebook_text(script: str) -> str:
    """A script of `# %%` cells as a page: its texts as Markdown, its code in fences."""
    parts = []
    for cell in re.split(r"(?m)^# %%", script)[1:]:
        kind, _, body = cell.partition("\n")
        if kind.strip() == "[markdown]":
            parts.append("\n".join(line.removeprefix("#").removeprefix(" ") for line in body.strip().splitlines()))
        else:
            parts.append(f"```python\n{body.strip()}\n```")
    return "\n\n".join(parts) + "\n"


def site_path(path: str) -> str:
    """Where a file of the repository is on the site: `docs/a.md` at `a.md`, a tutorial's script as its page."""
    found = path.removeprefix("docs/")
    return f"{found.removesuffix('.py')}.md" if re.fullmatch(r"examples/\w+\.py", found) else found


def repository_path(page: str) -> str:
    """Where a page of the site lies in the repository."""
    return page if any(page.startswith(pattern.split("*")[0]) for pattern in PAGES) else f"docs/{page}"


def target_of(page: str, link: str) -> str | None:
    """The file or folder of the repository that a page's link leads to; None for other links."""
    if re.match(r"[a-z]+:|#|/", link):
        return None
    return posixpath.normpath(posixpath.join(posixpath.dirname(repository_path(page)), link.partition("#")[0]))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from elsewhere, and the files that any page links to."""
    for pattern in PAGES:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            text = path.read_text(encoding="utf-8")
            content = notebook_text(text) if path.suffix == ".py" else text
            files.append(File.generated(config, site_path(name), content=content))
    for file in list(files.documentation_pages()):
        for link in LINK.finditer(re.sub(r"(?s)```.*?```", "", file.content_string)):
            target = target_of(file.src_uri, link["target"])
            if target is None:
                continue
            linked = ROOT / target
            for path in (
                sorted(linked.rglob("*")) if linked.is_dir() and not (linked / "README.md").exists() else [linked]
            ):
                name = path.relative_to(ROOT).as_posix()
                if path.is_file() and files.get_file_from_path(site_path(name)) is None and path.suffix != ".md":
                    files.append(File.generated(config, site_path(name), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite a page's links from the repository's paths to the site's."""

    def rewritten(link: re.Match[str]) -> str:
        target = target_of(page.file.src_uri, link["target"])
        if target is None:
            return link[0]
        if target == "README.md":
            target = "docs/index.md"
        if (ROOT / target / "README.md").is_file():
            target += "/README.md"
        if (ROOT / target).exists() and files.get_file_from_path(site_path(target)) is None:
            return link["text"]  # a folder, or a page of the repository alone
        start = posixpath.dirname(page.file.src_uri) or "."
        anchor = link["target"].partition("#")[2]
        path = posixpath.relpath(site_path(target), start) + (f"#{anchor}" if anchor else "")
        return f"{link['image']}[{link['text']}]({path})"

    parts = re.split(r"(?s)(```.*?```)", markdown)  # nothing in a fence is a link
    return "".join(part if part.startswith("```") else LINK.sub(rewritten, part) for part in parts)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Read the roles that docstrings give to names, as in ``:class:`~evoprompt.optim.AskTell` ``, as links to these."""

    def named(role: re.Match[str]) -> str:
        shown = role["name"].rpartition(".")[2] if role["short"] else role["name"]
        return f'<autoref identifier="{role["name"]}" optional><code>{shown}</code></autoref>'

    role = r":(?:func|class|meth|mod|attr|data):<code>(?P<short>~?)(?P<name>[\w.]+)</code>"
    return re.sub(role, named, html)
