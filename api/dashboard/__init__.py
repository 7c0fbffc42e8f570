"""The dashboard: pages in which people watch runs and stop them.

A page is a shell without anything about runs in it, so it cannot be out of date. Its modules, in
``assets``, read the state of runs from the interface that everybody uses, and follow one event
stream. They are plain ES modules, served as they are:

- ``api store feed session``: what the server says, and what was asked of it and is not yet known;
- ``actions``: what a person does; ``words dom icons``: how things are called and made;
- one module for each element of a page, and one for each page: ``list run login``.
"""

from __future__ import annotations

from api.dashboard.pages import blueprint as blueprint
