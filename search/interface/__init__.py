"""Studies in scripts and notebooks: the commands as functions, their results as objects::

    import pairsearch

    with pairsearch.create("ws") as study:
        study.run(workers=2)
        for entry in study.best(3):
            print(entry.rank, dict(entry.params), entry.value)

Paths, environment variables and defaults are those of the commands. Functions raise `pairsearch.Error`, or
`pairsearch.DefinitionError` where a definition or its problem is at fault. The message is one line that says what was
given, what was expected and what to do.
"""
