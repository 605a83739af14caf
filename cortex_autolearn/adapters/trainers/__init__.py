"""Backends that make models: one module each, behind ``ports.Trainer``.

``dataset`` reads what they learn from, ``shelf`` keeps the jobs of those that work in files.
"""
