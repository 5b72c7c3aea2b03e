"""A browser's tab that records its requests and its complaints."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Dialog, Page


@dataclass
class BrowserPage:
    """A tab, and what has happened in it since it was opened."""

    page: Page
    requests: list[str] = field(default_factory=list)
    """The addresses of its requests, without those inside the page (`data:`, `blob:`)."""
    complaints: list[str] = field(default_factory=list)
    """Errors and warnings of the console, including violations of a policy, and exceptions of the page's scripts."""
    dialogs: list[str] = field(default_factory=list)
    """Messages of `alert` and similar dialogues, each of which is dismissed."""


def open_page(context: BrowserContext) -> BrowserPage:
    """Open a new tab and record what happens in it; the caller closes it."""
    page = context.new_page()
    watched = BrowserPage(page)

    def asked(url: str) -> None:
        if not url.startswith(("data:", "blob:")):
            watched.requests.append(url)

    def said(kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            watched.complaints.append(f"{kind}: {text}")

    def dismiss(dialog: Dialog) -> None:
        watched.dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("request", lambda request: asked(request.url))
    page.on("console", lambda message: said(message.type, message.text))
    page.on("pageerror", lambda error: watched.complaints.append(f"exception: {error}"))
    page.on("dialog", dismiss)
    return watched
