"""A trial of the real thing: 25 days of the daemon beside a simulated fleet, or the daemon over somebody's own files.

Scheduler, watcher, store, jobs and decisions are the daemon's own, in this process. The simulated days are
``mission``'s, what is told of them ``story``'s; own files are ``given``'s.
"""

from __future__ import annotations

from cortex_autolearn.demo.given import process
from cortex_autolearn.demo.mission import simulate
from cortex_autolearn.demo.places import MARKER, prepare

__all__ = ["MARKER", "prepare", "process", "simulate"]
