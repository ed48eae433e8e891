"""Hard negatives without false negatives: notebook 03.

`world` holds a run's tables as arrays, `space` their vectors, `mining` searches candidates and applies the rules,
`promotion` adds missed positives to the graph, `groups` and `heldout` are what the later notebooks read, `measure` what
the report shows, `review` the file in which a person judges doubtful pairs.
"""
