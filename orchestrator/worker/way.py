"""How a call crosses from code that runs outside of Trio to Trio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    Manager = Callable[[], AbstractAsyncContextManager[None]]


class Way(Protocol):
    """How a call crosses from the code outside to Trio."""

    def cross(self, function: Callable[..., Awaitable[Any]], /, *args: Any, **named: Any) -> Any:
        """Return what the function returns, or something to await that does."""

    def wait_for(self, function: Callable[..., Awaitable[Any]], /, *args: Any, **named: Any) -> Any:
        """Return what the function returns, and block until then."""

    def stop_here(self) -> BaseException:
        """Return what unwinds the code at hand."""

    def at_once(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return what a function returns that does not wait. No stop keeps it from being called."""

    def hold(self, manager: Manager) -> Any:
        """Return a manager of the code's own kind for a section of the gate."""

    def hold_at_once(self, manager: Manager) -> AbstractContextManager[None]:
        """Return a manager for ``with`` for a section whose ends do not wait."""

    def there(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return an async function for Trio that calls this one outside."""
