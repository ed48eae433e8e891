"""A small demo world to try bgetune on: its data and its miniature models, made from a seed and cached.

    >>> from bgetune_demo import resolve
    >>> clicks = resolve("demo://standard/clicks.csv")
    >>> encoder = resolve("demo://standard/encoder")

The world is the customer service, in Chinese, of one company; ``lexicon.yaml`` shows all of it. Because the meaning of
every text is known (``truth.csv``), notebooks measure what logs alone cannot show.

Worlds: ``standard`` is the demo's; ``small`` is a smaller one, for tests.

Data: ``clicks.csv``, ``qa.csv``, ``synonyms.csv``, ``pairs.csv``, ``graded.csv``, ``corpus.csv``, ``truth.csv``,
``near_misses.csv``, ``parallel.csv``. Models: ``encoder``, ``reranker``, ``zh-en``, ``en-zh``.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from bgetune.errors import InputError
from bgetune.locale import _
from bgetune_demo import cache
from bgetune_demo.world import SMALL, STANDARD, World

__all__ = ["DATA", "MODELS", "WORLDS", "World", "prepare", "resolve"]

SCHEME = "demo://"
WORLDS = {world.name: world for world in (STANDARD, SMALL)}
#: File name -> the function of :mod:`bgetune_demo.world` or :mod:`bgetune_demo.log` that makes it. The truth comes
#: last, because it covers the texts of all others.
DATA = {
    "corpus.csv": "world.corpus",
    "qa.csv": "world.qa",
    "synonyms.csv": "world.synonyms",
    "pairs.csv": "world.pairs",
    "graded.csv": "world.graded",
    "near_misses.csv": "world.misses",
    "parallel.csv": "world.parallel",
    "clicks.csv": "log.clicks",
    "truth.csv": "world.truth",
}
#: Model -> the module of :mod:`bgetune_demo` that trains it.
MODELS = {"encoder": "encoder", "reranker": "reranker", "zh-en": "translator", "en-zh": "translator"}

HERE = Path(__file__).parent
#: The source files that every item depends on, and the further ones of each kind of item.
_LANGUAGE = ("lexicon.yaml", "lexicon.py", "language.py")
_SOURCES = {
    "data": ("world.py", "log.py"),
    "encoder": ("nn.py", "encoder.py"),
    "reranker": ("nn.py", "reranker.py", "world.py"),
    "translator": ("nn.py", "translator.py", "world.py"),
}


def resolve(location: str, progress: bool = True) -> Path:
    """The path of an item, which is made first if it is not in the cache.

    Args:
        location: ``demo://<world>/<item>``. A data item is a CSV file, a model item is a folder; neither trains another
            model.
        progress: whether to show a progress bar while something is made.

    Raises:
        InputError: for a world or an item that does not exist.
    """
    name, _slash, item = location.removeprefix(SCHEME).partition("/")
    if not location.startswith(SCHEME) or name not in WORLDS or item not in {**DATA, **MODELS}:
        raise InputError(
            _(
                "there is no {location!r} in the demo world; write demo://<world>/<item> with a world of {worlds} and "
                "an item of {items}"
            ).format(location=location, worlds=", ".join(WORLDS), items=", ".join([*DATA, *MODELS]))
        )
    world = WORLDS[name]
    if item in DATA:
        folder = cache.root() / "data" / "demo" / f"{name}-{_key(world, 'data')}"
        return cache.build(folder, lambda draft: _make_data(world, draft, progress)) / item
    module = f"bgetune_demo.{MODELS[item]}"
    return cache.build(
        _model_folder(world, item), lambda draft: import_module(module).train(world, item, draft, progress)
    )


def prepare(world: str = "standard", workers: int = 2, progress: bool = True) -> None:
    """Make all missing items of a world, each model in a process of its own.

    `resolve` makes them one after the other; this is faster on a machine with several cores.

    Args:
        world: name of the world.
        workers: number of models made at the same time.
        progress: whether to show a progress bar.

    Raises:
        RuntimeError: with the process's message, if a model cannot be made; the finished ones are kept.
    """
    import subprocess
    import sys
    from concurrent.futures import ThreadPoolExecutor

    from tqdm.auto import tqdm

    resolve(f"{SCHEME}{world}/truth.csv", progress)  # also says which worlds there are

    def make(item: str) -> None:
        call = f"from bgetune_demo import resolve; resolve('{SCHEME}{world}/{item}', progress=False)"
        done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"The demo's {item} could not be made:\n{done.stderr}")

    missing = [item for item in MODELS if not _model_folder(WORLDS[world], item).is_dir()]
    with ThreadPoolExecutor(workers) as pool:
        label = f"demo models ({world}), 1-2 minutes"
        list(tqdm(pool.map(make, missing), label, len(missing), disable=not (progress and missing)))


def _key(world: World, kind: str) -> str:
    return cache.key(world, [HERE / file for file in (*_LANGUAGE, *_SOURCES[kind])])


def _model_folder(world: World, item: str) -> Path:
    return cache.root() / "models" / "demo" / f"{world.name}-{_key(world, MODELS[item])}" / item


def _make_data(world: World, folder: Path, progress: bool) -> None:
    from tqdm.auto import tqdm

    from bgetune_demo.world import make

    tables = make(world)
    for file, maker in tqdm(DATA.items(), desc=f"demo data ({world.name}), a few seconds", disable=not progress):
        module, _, function = maker.partition(".")
        table = getattr(import_module(f"bgetune_demo.{module}"), function)(tables)
        table.to_csv(folder / file, index=False, encoding="utf-8", lineterminator="\n")
