"""The interface described to machines, and to people, from what it is made of.

Nothing here is said a second time: paths and words come from the calls themselves, bodies and
queries from the orders that they parse, answers from the values that they show, and who may ask
from the table of rights. ``operations`` joins these by name; every answer that the tests get is
held against it.

- ``shapes``: what answers consist of;
- ``refusals``: which problems a call may answer with;
- ``operations``: what each call takes and gives;
- ``document``: all of it as OpenAPI 3.1;
- ``page``: the same for people;
- ``calls``: ``/openapi.json`` and ``/docs``.
"""

from __future__ import annotations

from api.openapi.calls import blueprint as blueprint
