"""Processes of their own for runs, which can be ended for certain. Linux only.

Three kinds of process: the orchestrator's, the warden, and the workers.

- The warden is small, has one thread, and is the parent of every worker. It forks them from the
  modules that it has loaded, and it alone signals and reaps them. Its socket to the orchestrator
  is the lifeline: when that ends, so does everything below the warden.
- A worker calls one function, with a socket to the orchestrator. All that it ever starts carries
  its mark (``kernel``) and stays below it, daemons included, so that it can be found.
- When the warden itself is killed its workers die with it, and what they leave behind comes to
  the orchestrator, which finds it by the mark and ends it.

Modules that know nothing of runs: ``kernel procfs`` ask the system; ``values errors packets`` are
for both sides; ``warden lifeline process adoption`` are the orchestrator's side, ``warden_process
ward birth`` the warden's and the worker's. The others carry a run across.
"""

from __future__ import annotations

from orchestrator.worker.errors import NotEnded as NotEnded
from orchestrator.worker.errors import WardenUnavailable as WardenUnavailable
from orchestrator.worker.errors import WorkerNotStarted as WorkerNotStarted
from orchestrator.worker.process import WorkerProcess as WorkerProcess
from orchestrator.worker.values import Death as Death
from orchestrator.worker.values import WorkerSpec as WorkerSpec
from orchestrator.worker.warden import Warden as Warden
from orchestrator.worker.warden import open_warden as open_warden
