"""From final tasks to the set of high-quality outcomes.

``gate`` is the quality rule, ``split`` tells training from validation, ``outcome`` writes an outcome's line, ``job``
does it with the state and real files. Scores that tasks lack are ``scoring``'s business: ``score`` says what to have
judged, ``prompt`` how it is asked, ``money`` what it may cost.
"""
