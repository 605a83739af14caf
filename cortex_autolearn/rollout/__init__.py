"""From a trained model to a better fleet, safely: challenger, A/B test, promotion, rollback.

``deploy``, ``follow``, ``late`` and ``endpoints`` do the work over the state, files and backends, ``job`` all of it in
order; ``steps`` and ``apply`` carry out what a person or a decision calls for, ``project`` writes what others read, and
``standing``, ``waiting`` and ``intake`` look. What the numbers of a test mean, and what may follow from them, is pure:
``outcomes``, ``evidence`` with ``tally`` and ``wealth``, ``trials``, ``decide``, ``registry``; ``replay``, ``simulate``
and ``vectorised`` try these rules.
"""
