"""A language model that knows the demo world, behind an OpenAI-compatible endpoint; some of what it says is wrong."""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # tests/: the server of the tests of augment

from augment.server import Server, completion, running, say

from bgetune import paths
from bgetune.augment.generate import read_prompt
from bgetune.data.text import STANDARD, text_id
from bgetune.metrics.truth import read_truth
from bgetune_demo import WORLDS
from bgetune_demo.language import sentences, stream
from bgetune_demo.lexicon import Meaning, load, near_misses
from bgetune_demo.parse import meaning_of

TASKS = ("queries", "near_misses", "paraphrases", "judge")


class KnownWorld:
    """The script of a `Server`.

    Args:
        noise: share of the texts that are wrong: a query that means something else, a near-miss that means the same.
        faults: share of the requests that fail the first time: 429, 500, an answer that is cut off, a slow one.
        seed: of what it writes.
        world: name of the demo world.
    """

    def __init__(self, *, noise: float = 0.1, faults: float = 0.02, seed: int = 0, world: str = "standard"):
        self.noise, self.faults, self.seed = noise, faults, seed
        self.lexicon = load(WORLDS[world].services)
        self.truth = read_truth(paths.locate(f"demo://{world}/truth.csv"), STANDARD)
        self.meanings = {meaning.id: meaning for meaning in self.lexicon.meanings}
        self.close: dict[Meaning, list[Meaning]] = {meaning: [] for meaning in self.lexicon.meanings}
        for a, b in near_misses(self.lexicon.meanings):
            self.close[a].append(b)
            self.close[b].append(a)
        self.prompts = {read_prompt(task, language): task for task in TASKS for language in ("zh", "en")}

    def meaning(self, text: str) -> Meaning | None:
        """What a text means; None for one that means nothing in particular."""
        found = self.truth.get(text_id(STANDARD(text)))
        return self.meanings.get(meaning_of(text) or "" if found is None else found)

    def __call__(self, text: str, turn: int, body: dict) -> tuple:
        task = self.prompts[body["messages"][0]["content"]]
        data = json.loads(body["messages"][1]["content"])
        rng = stream(self.seed, task, *data.values())
        if rng.random() < self.faults and turn == 0:
            return self.fault(rng)
        if task == "judge":
            return 200, completion(json.dumps({"verdict": self.verdict(data["a"], data["b"], rng)}))
        meaning = self.meaning(text)
        return say(*(self.write(task, text, meaning, data["count"], rng) if meaning else ()))

    def verdict(self, a: str, b: str, rng: random.Random) -> str:
        """Whether two texts mean the same; a twentieth is not sure, noise says the contrary."""
        meaning = self.meaning(a)
        same = meaning is not None and meaning == self.meaning(b)
        if rng.random() < 0.05:
            return "unsure"
        return "same" if same != (rng.random() < self.noise) else "different"

    def fault(self, rng: random.Random) -> tuple:
        kind = rng.choice(["limit", "error", "cut", "slow"])
        if kind == "limit":
            return 429, {"error": {"message": "slow down"}}, {"retry-after": "0.1"}
        if kind == "error":
            return 500, {"error": {"message": "oops"}}
        if kind == "cut":
            return 200, completion('{"texts": ["甲', finish="length")
        time.sleep(1.0)
        return say("太慢了")

    def write(self, task: str, text: str, meaning: Meaning, count: int, rng: random.Random) -> list[str]:
        """The texts of an answer: as users type (every third with a typing error); noise takes another meaning."""
        written: list[str] = []
        for number in range(count):
            others = self.close[meaning] or [meaning]
            wrong = rng.random() < self.noise
            right = rng.choice(others) if (task == "near_misses") != wrong else meaning
            slips = 1.0 if task == "queries" and number % 3 == 2 else 0.06
            written += [s.zh for s in sentences(self.lexicon, right, 1, rng, slips=slips, without=[*written, text])]
        return written


def serve(**options) -> Server:
    """A server with such a model, until it is shut down."""
    return running(KnownWorld(**options))
