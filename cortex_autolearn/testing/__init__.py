"""Stand-ins for the outside world, for the package's own tests and for those of its users, and for the demo.

A clock that moves when told to, a simulated fleet with the truth about everything it writes, and agents whose tasks
go to whatever model the router names.
"""

from __future__ import annotations

from cortex_autolearn.testing.agents import Ability, Agents
from cortex_autolearn.testing.blemishes import BROKEN, HARMLESS, KINDS, UNUSABLE
from cortex_autolearn.testing.clock import FakeClock
from cortex_autolearn.testing.facts import Expected, Facts, Truth, Write, expect
from cortex_autolearn.testing.fleet import Fleet, append
from cortex_autolearn.testing.judge import ScriptedJudge
from cortex_autolearn.testing.life import Skill, Task
from cortex_autolearn.testing.trainer import Script, ScriptedTrainer
from cortex_autolearn.testing.work import MASTERS

__all__ = [
    "BROKEN",
    "HARMLESS",
    "KINDS",
    "MASTERS",
    "UNUSABLE",
    "Ability",
    "Agents",
    "Expected",
    "Facts",
    "FakeClock",
    "Fleet",
    "Script",
    "ScriptedJudge",
    "ScriptedTrainer",
    "Skill",
    "Task",
    "Truth",
    "Write",
    "append",
    "expect",
]
