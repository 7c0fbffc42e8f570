"""Quiesce: a run orchestrator on Trio whose stop button works for certain.

How the package is laid out, from the leaves up; imports point only downwards in this list:

- ``model errors events clock``: the frozen values that everything speaks of; the time;
- ``lifecycle trace``: the table of statuses, pure functions; where a run comes from in a trace;
- ``cleanup faults timers observing journal feed broadcast registry admission store``: bounded
  shields, what is wrong with a value in words, alarms, those who watch, durable writes in order,
  numbered logs, the latest of all, live runs, slots and the queue for them, and where it all is
  stored;
- ``apart options agent catalog sections operations``: what starters choose, and what an agent is;
  the stretches of code that a stop treats with care, and the gate before each of them;
- ``http llm mcp data steps questions``: what agents do through that gate;
- ``telling context``: what an agent is given;
- ``stopping supervise ladder pausing handle run``: one run: the account of its stop, its
  execution, the ladder that stops it, the brake that pauses it, and the living whole;
- ``engine inprocess``: the seam between runs and whatever decides where, and when, each of them
  runs; and the engine of a single process;
- ``starting halting recovery schedules runtime``: how runs come to be, also after a crash, and
  again and again; how all of them are stopped; and the orchestrator;
- ``knowledge``: the search through what runs have found to read;
- ``agents adapters``: the built-in agents, and those of other frameworks.

``stack`` reads where tasks stand.
"""

from __future__ import annotations

from orchestrator.agent import Agent as Agent
from orchestrator.agent import agent as agent
from orchestrator.apart import ProcessLimits as ProcessLimits
from orchestrator.broadcast import Listener as Listener
from orchestrator.broadcast import Notice as Notice
from orchestrator.context import Context as Context
from orchestrator.context import current_context as current_context
from orchestrator.engine import QueueFigures as QueueFigures
from orchestrator.errors import AgentFailed as AgentFailed
from orchestrator.errors import AgentStopped as AgentStopped
from orchestrator.errors import ExtraMissing as ExtraMissing
from orchestrator.errors import Halted as Halted
from orchestrator.errors import IllegalTransition as IllegalTransition
from orchestrator.errors import InvalidInput as InvalidInput
from orchestrator.errors import KeyConflict as KeyConflict
from orchestrator.errors import NobodyAsks as NobodyAsks
from orchestrator.errors import NotAnswered as NotAnswered
from orchestrator.errors import OperationCut as OperationCut
from orchestrator.errors import OperationRefused as OperationRefused
from orchestrator.errors import OperationsAreLeaves as OperationsAreLeaves
from orchestrator.errors import OrchestratorError as OrchestratorError
from orchestrator.errors import ParentIsPaused as ParentIsPaused
from orchestrator.errors import PartOfATree as PartOfATree
from orchestrator.errors import QueueFull as QueueFull
from orchestrator.errors import RunEnded as RunEnded
from orchestrator.errors import ScheduleExists as ScheduleExists
from orchestrator.errors import StartsRefused as StartsRefused
from orchestrator.errors import StopRequested as StopRequested
from orchestrator.errors import StoreDamaged as StoreDamaged
from orchestrator.errors import StoreInUse as StoreInUse
from orchestrator.errors import StoreUnavailable as StoreUnavailable
from orchestrator.errors import TooLateToStop as TooLateToStop
from orchestrator.errors import UnfitAnswer as UnfitAnswer
from orchestrator.errors import UnknownAgent as UnknownAgent
from orchestrator.errors import UnknownRun as UnknownRun
from orchestrator.errors import UnknownSchedule as UnknownSchedule
from orchestrator.errors import WorkerDied as WorkerDied
from orchestrator.events import EVENT_TYPES as EVENT_TYPES
from orchestrator.events import Event as Event
from orchestrator.events import is_agents_own as is_agents_own
from orchestrator.faults import faults_of as faults_of
from orchestrator.feed import Subscription as Subscription
from orchestrator.files import File as File
from orchestrator.inprocess import MAX_QUEUED as MAX_QUEUED
from orchestrator.knowledge import Knowledge as Knowledge
from orchestrator.knowledge import Passage as Passage
from orchestrator.lifecycle import available_actions as available_actions
from orchestrator.llm import Reply as Reply
from orchestrator.llm import ToolCall as ToolCall
from orchestrator.mcp import ToolFailed as ToolFailed
from orchestrator.mcp import ToolResult as ToolResult
from orchestrator.mcp import ToolServer as ToolServer
from orchestrator.mcp import ToolServerUnavailable as ToolServerUnavailable
from orchestrator.model import Halt as Halt
from orchestrator.model import Progress as Progress
from orchestrator.model import Question as Question
from orchestrator.model import Receipt as Receipt
from orchestrator.model import RunError as RunError
from orchestrator.model import RunId as RunId
from orchestrator.model import RunOptions as RunOptions
from orchestrator.model import RunRecord as RunRecord
from orchestrator.model import RunStatus as RunStatus
from orchestrator.model import StopMode as StopMode
from orchestrator.model import StopOutcome as StopOutcome
from orchestrator.model import StopSource as StopSource
from orchestrator.model import Usage as Usage
from orchestrator.observing import Observer as Observer
from orchestrator.options import options_schema as options_schema
from orchestrator.ports import Child as Child
from orchestrator.run import Run as Run
from orchestrator.runtime import Orchestrator as Orchestrator
from orchestrator.runtime import open_orchestrator as open_orchestrator
from orchestrator.schedules import Schedule as Schedule
from orchestrator.schedules import Schedules as Schedules
from orchestrator.stack import Frame as Frame
from orchestrator.stack import TaskStack as TaskStack
from orchestrator.store import Checked as Checked
from orchestrator.store import back_up_store as back_up_store
from orchestrator.store import check_store as check_store
from orchestrator.store import vacuum_store as vacuum_store
from orchestrator.store.protocol import ArtifactInfo as ArtifactInfo
from orchestrator.store.protocol import RunFilter as RunFilter
from orchestrator.store.protocol import RunPage as RunPage
from orchestrator.store.writes import SaveDocument as SaveDocument
from orchestrator.trace import called_from as called_from
from orchestrator.trace import come_from as come_from
from orchestrator.worker.face import AsyncioContext as AsyncioContext
from orchestrator.worker.face import SyncContext as SyncContext
