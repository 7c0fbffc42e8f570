"""What can be asked of the run under the cursor, from whichever screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.screen import Screen

from api.terminal import clean
from api.top.panel import Order, StopPanel, Target
from orchestrator import OrchestratorError, RunStatus, available_actions

if TYPE_CHECKING:
    from api.top.board import Board
    from api.top.link import Link
    from orchestrator import RunRecord

# The keys are named after the actions of the API; `pause` resumes as well.
_ACTIONS = {"stop", "pause", "rerun"}

# The workers that ask for what was decided.
ORDERS = "orders"


class Acting(Screen[None]):
    """A screen with a run under its cursor.

    Args:
        link: where things are asked for.
        board: where what the server says of it is put.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "stop", "Stop"),
        Binding("p", "pause", "Pause/Resume"),
        Binding("r", "rerun", "Rerun"),
    ]

    def __init__(self, link: Link, board: Board) -> None:
        super().__init__()
        self.link = link
        self.board = board

    def target(self) -> Target | None:
        """Return the run under the cursor; None if there is none."""
        raise NotImplementedError

    def find(self, run_id: str) -> Target | None:
        """Return a run of those that the screen shows, as it is known now."""
        raise NotImplementedError

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """A key is offered where the run's status allows what it does, and nowhere else."""
        if action not in _ACTIONS:
            return True
        target = self.target()
        possible = () if target is None else available_actions(target.status)
        if action == "pause":
            return True if {"pause", "resume"} & set(possible) else None
        if action == "stop":
            return True if target is not None and target.modes else None
        return True if action in possible else None

    def action_stop(self) -> None:
        """Open the panel for the run under the cursor, whatever that is on afterwards."""
        target = self.target()
        if target is None:
            return

        def decided(order: Order | None) -> None:
            if order is not None:
                self._ask(target, "stop", mode=str(order.mode), reason=order.reason)

        self.app.push_screen(StopPanel(lambda: self.find(target.id)), decided)

    def action_pause(self) -> None:
        """Pause the run, or let it go on."""
        if (target := self.target()) is not None:
            resumes = "resume" in available_actions(target.status)
            self._ask(target, "resume" if resumes else "pause")

    def action_rerun(self) -> None:
        """Start a new run with the same input."""
        if (target := self.target()) is not None:
            self._ask(target, "rerun", from_step=None)

    def _ask(self, target: Target, verb: str, **order: object) -> None:
        # Not of this screen: what was decided is asked for although the screen is left.
        self.app.run_worker(self._carry_out(target, verb, order), group=ORDERS, exit_on_error=True)

    async def _carry_out(self, target: Target, verb: str, order: dict[str, object]) -> None:
        moment = self.board.moment
        name = f"{clean(target.agent)} {target.id}"
        try:
            record = await self.link.ask(target.id, verb, **order)
        except OrchestratorError as error:
            self.app.notify(f"{name}: {error}", title=f"No {verb}", severity="error", markup=False)
            return
        if record.parent_id is None:
            self.board.put(record, moment)
        self.app.notify(_told(verb, name, record), markup=False)


def _told(verb: str, name: str, record: RunRecord) -> str:
    if verb == "rerun":
        return f"{name} is repeated as {record.id}"
    if verb == "stop" and record.status is RunStatus.STOPPING:
        return f"{name} is stopping"
    return f"{name} is {record.status.replace('_', ' ')}"
