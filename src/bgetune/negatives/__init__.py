"""Hard negatives without false negatives: notebook 03.

- `corpus`: a run's tables as arrays;
- `space`: their vectors;
- `rules`: what decides, and how the nearest texts are searched;
- `candidates`: the nearest texts of every query;
- `risk`: the probability that a candidate is an unknown positive;
- `mining`: candidates -> rules -> hard negatives;
- `selection`: which of those that passed are taken;
- `doubt`: which may be missed positives;
- `promotion`: missed positives for the graph, doubtful pairs for people;
- `review`: the file in which people label doubtful pairs;
- `groups`, `heldout`: what notebooks 04 and 05 read;
- `measure`: what the report shows.
"""
