"""The public test harness: prove that agents stop cleanly.

How the package is laid out, from the leaves up:

- ``places report``: lines of source; what was found, as plain values;
- ``chance leaks clock points``: seeded order of tasks; what must not be left over; virtual time;
  the moments between two steps of tasks;
- ``scripted_http scripted_llm``: a network and a language model without sockets;
- ``watching resources garbage checks``: what one round is watched for, and checked for;
- ``reproduce round sweep``: the stop sweep;
- ``helpers``: waiting for a status, collecting events, seeing that a tree is gone;
- ``plugin``: fixtures for pytest.
"""

from __future__ import annotations

from orchestrator.testing.clock import Standstill as Standstill
from orchestrator.testing.clock import VirtualTime as VirtualTime
from orchestrator.testing.clock import virtual_time as virtual_time
from orchestrator.testing.helpers import assert_tree_gone as assert_tree_gone
from orchestrator.testing.helpers import record as record
from orchestrator.testing.helpers import until as until
from orchestrator.testing.leaks import Leaked as Leaked
from orchestrator.testing.leaks import no_leaks_in as no_leaks_in
from orchestrator.testing.places import Place as Place
from orchestrator.testing.points import Points as Points
from orchestrator.testing.points import at_points as at_points
from orchestrator.testing.report import Fault as Fault
from orchestrator.testing.report import SweepFailed as SweepFailed
from orchestrator.testing.report import SweepReport as SweepReport
from orchestrator.testing.report import Violation as Violation
from orchestrator.testing.scripted_http import Reply as Reply
from orchestrator.testing.scripted_http import ScriptedHTTP as ScriptedHTTP
from orchestrator.testing.scripted_llm import ScriptedLLM as ScriptedLLM
from orchestrator.testing.sweep import run_stop_sweep as run_stop_sweep
from orchestrator.testing.sweep import stop_sweep as stop_sweep
