"""The one bounded shield.

Cleanup must run although its scope is cancelled, and must not run for ever: an unbounded shield
is a hang that waits to happen. Only this module and ``operations`` shield anything.
"""

from __future__ import annotations

import trio

# How often code that is waited for gets its turn at the least. Where hundreds of runs keep the loop
# busy a turn takes long, and seconds alone would give up on code that was never asked.
TURNS = 100


def bounded(seconds: float) -> trio.CancelScope:
    """Return a scope for ``with`` in which cancellation from outside does not arrive.

    An inner shield defeats the bound, as everywhere in Trio. The owner of the scope may lower
    its deadline later on.

    Args:
        seconds: how long the body may take from the moment the scope is entered; ``inf`` only
            for a service whose owner cancels the scope when everything that needs it is over.
    """
    return trio.CancelScope(shield=True, relative_deadline=seconds)


async def patience(event: trio.Event, seconds: float) -> None:
    """Wait for what other tasks of this loop are about to do. A checkpoint if it is not done.

    Returns once the event is set, or ``seconds`` are over and every other task has had ``TURNS``
    turns meanwhile.
    """
    with trio.move_on_after(seconds):
        await event.wait()
    turns = 0
    while not event.is_set() and turns < TURNS:
        await trio.lowlevel.checkpoint()
        turns += 1


def is_cancelled(error: BaseException) -> bool:
    """Return whether an error is Trio's cancellation, or a group that has one in it."""
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(trio.Cancelled) is not None
    return isinstance(error, trio.Cancelled)
