"""What the gate is worth, what the cache saves, and how fast translating is, on the demo world.

    python tests/benchmarks/bench_augment.py [--quick] [--texts N]

Notebook 01 is run first, so the clusters are the mined ones, not the true ones. Correctness is judged by
`bgetune_demo.parse`. The plain loop translates the same texts, with the same decoding, as the documentation of
transformers shows it: batches of 8 in the order of the texts, `model.generate`.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import yaml

from bgetune import paths
from bgetune.augment import targets
from bgetune.augment.backtranslate import Translator, back_translate
from bgetune.augment.decoding import Decoding
from bgetune.augment.gate import check, collect
from bgetune.config.augmentation import Gate, Pivot
from bgetune.data.text import STANDARD
from bgetune.metrics.truth import read_truth
from bgetune.models.encoder import Encoder
from bgetune.models.reranker import Reranker
from bgetune.paths import ROOT
from bgetune.runs import manifest
from bgetune_demo.parse import keeps_meaning, shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer texts")
    parser.add_argument("--texts", type=int, help="texts to paraphrase")
    parser.add_argument(
        "--models", type=Path, help="folder with encoder, reranker, zh-en and en-zh; default the demo's"
    )
    arguments = parser.parse_args()
    count = arguments.texts or (150 if arguments.quick else 1000)

    # the small world's translators are too small to say anything: quick means fewer texts of the standard one
    models = {
        name: arguments.models / name if arguments.models else paths.locate(f"demo://standard/{name}")
        for name in ("encoder", "reranker", "zh-en", "en-zh")
    }
    truth = read_truth(paths.locate("demo://standard/truth.csv"), STANDARD)
    with tempfile.TemporaryDirectory() as folder:
        texts, clusters = mined(models, Path(folder))
        eligible = targets.texts_to_paraphrase(texts, clusters, None, seed=42)
        origins = eligible.head(count).reset_index(drop=True)
        pivots = [Pivot(language="en", to_pivot=str(models["zh-en"]), from_pivot=str(models["en-zh"]))]
        cache = Path(folder) / "translations.sqlite"
        rows, record = [], {"texts": len(origins)}
        for method in ("sampling", "beam"):
            decoding = Decoding(method, 4, top_p=0.8, temperature=0.7)
            found = quality(origins, texts, clusters, pivots, decoding, models, truth, cache)
            record[method] = found
            rows += [(f"{method}: {name}", shown(value)) for name, value in found.items()]
        record |= speed(origins["text"].tolist(), pivots, models, Path(folder), turns=1 if arguments.quick else 3)
    rows += [(name.replace("_", " "), shown(value)) for name, value in record.items() if isinstance(value, float)]
    print(table(rows))
    print(json.dumps(record, ensure_ascii=False))


def mined(models: dict[str, Path], folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Texts and clusters as notebook 01 makes them of the demo world."""
    import papermill

    profile = yaml.safe_load((ROOT / "params/demo.yaml").read_text(encoding="utf-8"))
    profile |= {name: str(models[field]) for name, field in (("model", "encoder"), ("reranker", "reranker"))}
    file = folder / "profile.yaml"
    file.write_text(yaml.safe_dump(profile, allow_unicode=True), encoding="utf-8")
    papermill.execute_notebook(
        ROOT / "notebooks/01_positives.ipynb",
        folder / "01.ipynb",
        parameters={"profile": str(file), "run_dir": str(folder / "run")},
        progress_bar=False,
    )
    read = [pd.read_parquet(manifest.artifact_path(folder / "run", name)) for name in ("texts", "clusters")]
    return read[0], read[1]


def quality(origins, texts, clusters, pivots, decoding, models, truth, cache) -> dict:
    """Shares of correct paraphrases without and behind the gate, and texts that gained one."""
    started = time.perf_counter()
    translations = back_translate(origins["text"].tolist(), pivots, decoding, cache=cache, progress=False)
    first = time.perf_counter() - started
    encoder = Encoder(models["encoder"], max_length=32)
    reranker = Reranker(models["reranker"], max_length=32)
    table = check(
        collect(origins, translations), texts, clusters, Gate(), encoder=encoder, reranker=reranker, progress=False
    )
    # a text that was there before is no paraphrase to check, kept or not
    new = table[(table["text"] != "") & (table["reason"] != "known")]
    found = shares(keeps_meaning(new["origin_id"], new["text"], truth), new["reason"] == "")
    kept = table[table["reason"] == ""]
    with mock.patch("transformers.AutoModelForSeq2SeqLM.from_pretrained", side_effect=AssertionError("loaded")):
        started = time.perf_counter()
        again = back_translate(origins["text"].tolist(), pivots, decoding, cache=cache, progress=False)
        second = time.perf_counter() - started
    assert again.equals(translations)
    return {
        "candidates": len(new),
        "correct_ungated": float(found.loc["ungated", "correct"]),
        "correct_kept": float(found.loc["kept", "correct"]),
        "correct_kept_interval": found.loc["kept", ["low", "high"]].tolist(),
        "kept": len(kept),
        "texts_with_paraphrase": kept["origin_id"].nunique() / len(origins),
        "dropped": {rule: int(n) for rule, n in table["reason"].value_counts().items() if rule},
        "first_run_seconds": first,
        "second_run_seconds": second,
    }


def speed(texts: list[str], pivots: list[Pivot], models: dict[str, Path], folder: Path, turns: int) -> dict:
    """How fast we go there and back with 4 samples each, beside the plain loop: medians over turns taken alternately.

    Translating is what both do. What only `back_translate` does, asking the models what they think of each paraphrase,
    is timed apart.
    """
    decoding = Decoding("sampling", 4, top_p=0.8, temperature=0.7)
    seconds = {"plain": [], "bgetune": [], "judging": []}
    for turn in range(turns + 1):
        part = texts if turn else texts[:16]  # the first turn is for warming up
        cache = folder / f"turn{turn}.sqlite"
        plainly = timed(lambda part=part: plain(part, models))
        ours = timed(lambda part=part, cache=cache: translated(part, pivots[0], decoding, cache))
        judging = timed(
            lambda part=part, cache=cache: back_translate(part, pivots, decoding, cache=cache, progress=False)
        )
        for name, pair in zip(seconds, (plainly, ours, judging), strict=True):
            seconds[name] += [pair] * bool(turn)
    medians = {name: np.median(pairs, axis=0) for name, pairs in seconds.items()}
    found = {f"{name}_texts_per_second": len(texts) / float(wall) for name, (wall, _) in medians.items()}
    for place, clock in enumerate(("wall", "cpu")):
        found[f"times_as_fast_{clock}"] = float(medians["plain"][place] / medians["bgetune"][place])
        both = medians["bgetune"] + medians["judging"]
        found[f"times_as_fast_with_judging_{clock}"] = float(medians["plain"][place] / both[place])
    return found


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock on the wall and by that of the CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def translated(texts: list[str], pivot: Pivot, decoding: Decoding, cache: Path) -> list[list[str]]:
    """There and back, as `back_translate` goes."""
    forth = Translator(pivot.to_pivot, cache=cache).translate(texts, Decoding(num_beams=decoding.num_beams), False)
    there = list(dict.fromkeys(text for [text] in forth if text))
    return Translator(pivot.from_pivot, cache=cache).translate(there, decoding, False)


def plain(texts: list[str], models: dict[str, Path]) -> list[str]:
    """The loop of the documentation: batches of 8, as they come."""
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    torch.manual_seed(0)
    for name, options in (
        ("zh-en", {"num_beams": 4}),
        ("en-zh", {"do_sample": True, "num_beams": 1, "top_p": 0.8, "temperature": 0.7, "num_return_sequences": 4}),
    ):
        tokenizer = AutoTokenizer.from_pretrained(models[name])
        model = AutoModelForSeq2SeqLM.from_pretrained(models[name]).eval()
        translated = []
        for start in range(0, len(texts), 8):
            batch = tokenizer(texts[start : start + 8], return_tensors="pt", padding=True, truncation=True)
            with torch.no_grad():
                ids = model.generate(**batch, **options)
            translated += tokenizer.batch_decode(ids, skip_special_tokens=True)
        texts = translated
    return texts


def shown(value) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list):
        return " - ".join(f"{item:.3f}" for item in value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else f"{value:,}"


def table(rows: list[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
