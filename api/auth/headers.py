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


def _always(policy: str) -> list[tuple[str, str]]:
    return [
        ("Content-Security-Policy", policy),
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", "DENY"),
        ("Referrer-Policy", "no-referrer"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Cache-Control", "no-store"),
    ]


_OF_PAGES, OF_OTHERS = _always(PAGE), _always(NO_PAGE)


async def harden(response: Response) -> Response:
    """Add what the answer does not say itself, and take the type from one that has no content."""
    if response.status_code == 204 or (request.method == "OPTIONS" and not response.content_length):
        response.headers.pop("Content-Type", None)
    said = {name.lower() for name, _ in response.headers}
    wanted = _OF_PAGES if response.mimetype == "text/html" else OF_OTHERS
    response.headers.extend([each for each in wanted if each[0].lower() not in said])
    # Not for localhost: a browser would then refuse every other server there.
    if is_secure() and the_access().is_public(request.headers.get("Host", "")):
        response.headers.setdefault("Strict-Transport-Security", HSTS)
    return response
