"""Worked examples, found for the task at hand: a model made of a base model and the best outcomes of the fleet.

``open_model`` opens ``models/<model_id>/``; the model's ``request`` is what the router hands out. Used while a task
waits: nothing is done at import, SQLite is loaded when the first model is opened, and a lookup among 10,000 examples
takes milliseconds. How a model is made is the business of the trainer ``adapters.trainers.exemplar``, with ``index``,
``core`` and ``measure`` from here.
"""

from __future__ import annotations

from cortex_autolearn.exemplars.model import ExemplarModel, Recipe, open_model

__all__ = ["ExemplarModel", "Recipe", "open_model"]
