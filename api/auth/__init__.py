"""Who may do what.

- ``identity``: principals, roles, and what an authenticator is;
- ``rights``: the one table of what each call needs;
- ``tokens sections file access``: bearer tokens, the file that lists them, the rules of a server;
- ``audit noting``: who did what;
- ``guard``: what every request passes before its call;
- ``jwts proxy wallets``: the authenticators besides tokens;
- ``sessions login``: cookies for pages.
"""

from __future__ import annotations

from api.auth.access import Access as Access
from api.auth.access import FileAccess as FileAccess
from api.auth.identity import ANONYMOUS as ANONYMOUS
from api.auth.identity import Authenticator as Authenticator
from api.auth.identity import BadCredentials as BadCredentials
from api.auth.identity import CannotJudge as CannotJudge
from api.auth.identity import Credentials as Credentials
from api.auth.identity import Identity as Identity
from api.auth.identity import Role as Role
