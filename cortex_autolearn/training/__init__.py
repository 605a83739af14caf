"""From the set of high-quality outcomes to a model.

``gather`` reads outcomes, ``dataset`` chooses examples, ``nearness`` finds those that are nearly alike, ``leakage``
looks once more, ``cost`` measures, ``frozen`` writes and reads the folder of a dataset, ``build`` makes one; ``plan``
decides when to train, and ``job`` and ``tend`` do it.
"""
