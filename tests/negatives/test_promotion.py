import pandas as pd

from bgetune.data.text import text_id
from bgetune.negatives import promotion


def test_what_nobody_knows_is_not_called_wrong(toy):
    """A paraphrase made in 02 is in no truth."""
    names = [f"meaning {meaning} text {variant}" for meaning, variant in ((0, 0), (0, 1), (1, 0), (2, 0))]
    pairs = [(names[0], names[1]), (names[0], names[2]), (names[0], names[3])]
    missed = pd.DataFrame([(text_id(a), text_id(b), 0.9, "recall") for a, b in pairs])
    missed.columns = ["a_id", "b_id", "score", "source"]
    truth = {text_id(text): toy.meaning[text] for text in names[:3]}
    assert promotion.examples(toy.corpus, missed, truth)["truly the same"].tolist() == ["yes", "no", "unknown"]
    assert "truly the same" not in promotion.examples(toy.corpus, missed)
    assert promotion.examples(toy.corpus, missed.head(0), truth).empty
