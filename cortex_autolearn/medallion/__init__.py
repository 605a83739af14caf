"""Bronze to silver to gold: raw task records refined, once each, and summed up by day.

``bronze`` tells which file is which and what is new, ``silver`` turns records into silver lines, ``gold`` sums days up,
``job`` does it with real files and the state.
"""
