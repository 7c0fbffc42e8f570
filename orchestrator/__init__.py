"""Quiesce: a run orchestrator on Trio whose stop button works for certain.

How the package is laid out, from the leaves up; imports point only downwards in this list:

- ``model errors events``: the frozen values that everything speaks of;
- ``lifecycle``: the table of statuses, pure functions;
- ``cleanup timers journal feed registry store``: bounded shields, alarms, durable writes in
  order, numbered logs, live runs, and where it all is stored;
- ``agent operations http``: what an agent is; the gate before each operation and the shield
  around it; the HTTP client of a run;
- ``context``: what an agent is given;
- ``stopping supervise ladder run``: one run: the account of its stop, its execution, the ladder
  that stops it, and the living whole;
- ``recovery runtime``: after a crash; and the orchestrator itself;
- ``agents``: the built-in agents.

``stack`` reads where tasks stand.
"""

from __future__ import annotations

from orchestrator.agent import Agent as Agent
from orchestrator.agent import agent as agent
from orchestrator.context import Context as Context
from orchestrator.context import current_context as current_context
from orchestrator.errors import AgentFailed as AgentFailed
from orchestrator.errors import AgentStopped as AgentStopped
from orchestrator.errors import IllegalTransition as IllegalTransition
from orchestrator.errors import InvalidInput as InvalidInput
from orchestrator.errors import OperationCut as OperationCut
from orchestrator.errors import OperationRefused as OperationRefused
from orchestrator.errors import OperationsAreLeaves as OperationsAreLeaves
from orchestrator.errors import OrchestratorError as OrchestratorError
from orchestrator.errors import RunEnded as RunEnded
from orchestrator.errors import StartsRefused as StartsRefused
from orchestrator.errors import StoreDamaged as StoreDamaged
from orchestrator.errors import StoreInUse as StoreInUse
from orchestrator.errors import StoreUnavailable as StoreUnavailable
from orchestrator.errors import UnknownAgent as UnknownAgent
from orchestrator.errors import UnknownRun as UnknownRun
from orchestrator.events import Event as Event
from orchestrator.feed import Subscription as Subscription
from orchestrator.lifecycle import available_actions as available_actions
from orchestrator.model import Progress as Progress
from orchestrator.model import Receipt as Receipt
from orchestrator.model import RunError as RunError
from orchestrator.model import RunId as RunId
from orchestrator.model import RunOptions as RunOptions
from orchestrator.model import RunRecord as RunRecord
from orchestrator.model import RunStatus as RunStatus
from orchestrator.model import StopMode as StopMode
from orchestrator.model import StopOutcome as StopOutcome
from orchestrator.model import StopSource as StopSource
from orchestrator.ports import Child as Child
from orchestrator.run import Run as Run
from orchestrator.runtime import Orchestrator as Orchestrator
from orchestrator.runtime import open_orchestrator as open_orchestrator
from orchestrator.stack import Frame as Frame
from orchestrator.stack import TaskStack as TaskStack
from orchestrator.store.protocol import ArtifactInfo as ArtifactInfo
from orchestrator.store.protocol import RunFilter as RunFilter
from orchestrator.store.protocol import RunPage as RunPage
