"""The whole system in a world that one number makes: real jobs, files, state and router, and everything that goes wrong.

``world`` draws a world from its seed, ``fleet`` works in it, ``judge`` and ``testing.ScriptedTrainer`` are its
providers, ``system`` runs the real jobs, ``syscalls`` makes the disk refuse and the process die. ``driver`` takes the
steps, and ``invariants`` (with ``settled``) checks after each what must hold, by its own books (``evidence``,
``looking``) and not by the code under test. ``python -m tests.simulation --seed N`` repeats a world.
"""
