"""What holds for every test: no setting of the user's, no key, and no property that fails because the machine is slow."""

from __future__ import annotations

import os

import live  # noqa: F401 - takes the keys away
from hypothesis import HealthCheck, settings

# Slow is what a machine is on which several test processes run; what must be fast has a test that says how fast.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("steady")

for _name in [name for name in os.environ if name.startswith("CORTEX_")]:
    del os.environ[_name]
