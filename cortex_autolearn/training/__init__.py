"""From the set of high-quality outcomes to a model.

``gather`` reads outcomes, ``dataset`` chooses examples, ``nearness`` finds those that are nearly alike (``bands`` and
``rare`` say which to compare), ``leakage`` looks once more, ``cost`` measures, ``chosen`` holds what was chosen,
``frozen`` writes and reads the folder of a dataset, ``scratch`` keeps what is too much for memory, and ``build`` makes
a dataset with all of them; ``plan`` decides when to train, and ``job`` and ``tend`` do it.
"""
