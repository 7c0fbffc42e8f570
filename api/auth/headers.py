"""Headers that keep browsers from doing more with an answer than it is meant for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quart import request

from api.auth.guard import is_secure, the_access

if TYPE_CHECKING:
    from quart import Response

# Nothing but our own files may act on a page, and nobody may frame it: a click is meant.
PAGE = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:;"
    " font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'"
)
NO_PAGE = "default-src 'none'; frame-ancestors 'none'"
HSTS = "max-age=31536000"


async def harden(response: Response) -> Response:
    """Add what the answer does not say itself."""
    is_page = response.mimetype == "text/html"
    for name, value in {
        "Content-Security-Policy": PAGE if is_page else NO_PAGE,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cache-Control": "no-store",
    }.items():
        response.headers.setdefault(name, value)
    # Not for localhost: a browser would then refuse every other server there.
    if is_secure() and the_access().is_public(request.headers.get("Host", "")):
        response.headers.setdefault("Strict-Transport-Security", HSTS)
    return response
