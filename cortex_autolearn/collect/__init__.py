"""From final tasks to the set of high-quality outcomes.

``gate`` is the quality rule, ``split`` tells training from validation, ``outcome`` writes an outcome's line, ``job``
does it with the state and real files.
"""
