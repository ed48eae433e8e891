"""What a scorer is asked in Python, without a service in between that checks it."""

import numpy as np
import pytest

from bgetune.errors import InputError


@pytest.mark.parametrize("k", [0, -1, 2.5, "3", None])
def test_a_search_for_no_number_of_hits_is_refused(scorer, k):
    with pytest.raises(InputError, match=f"k is {k!r}; give a whole number, 1 or more"):
        scorer.search("支付密码", k=k)


def test_what_cannot_be_embedded_is_said(scorer):
    with pytest.raises(InputError, match="kind is 'doc'; give one of 'query', 'document', 'symmetric'"):
        scorer.embed(["支付密码"], kind="doc")
    with pytest.raises(InputError, match="texts is None; give a text, or a list of texts"):
        scorer.embed(None)


@pytest.mark.filterwarnings("error")
def test_vectors_that_cannot_be_compared_are_refused(scorer, world):
    texts = world.texts["text"].tolist()[:20]
    own = scorer.embed(texts, kind="document")
    scorer.check_vectors(texts, own)
    for number in (np.nan, np.inf):
        broken = own.copy()
        broken[3, 1] = number
        with pytest.raises(InputError, match=r"is nan; 5\.0% are below 0\.99"):
            scorer.check_vectors(texts, broken)
    half = np.concatenate([own[:10], -own[10:]])  # an index that was rebuilt up to there
    with pytest.raises(InputError, match=r"0\.000; 50\.0% are below 0\.99"):
        scorer.check_vectors(texts, half)
    with pytest.raises(InputError, match="no texts to compare the vectors by"):
        scorer.check_vectors([], own[:0])
