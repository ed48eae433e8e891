"""What can be known before the first notebook is said before it, all of it in one message."""

import os
import shutil

import pytest
import tiny
import yaml
from augment.conftest import make_marian

from bgetune import checks
from bgetune.config.profile import load_profile
from bgetune.errors import InputError
from bgetune.paths import ROOT
from bgetune.runs import manifest, run_folder

KEYS = ("OPENAI_API_KEY", "DEEPL_AUTH_KEY", "BAIDU_APPID", "BAIDU_APPKEY", "TENCENTCLOUD_SECRET_ID")


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Models and data of a small team."""
    root = tmp_path_factory.mktemp("team")
    tiny.save_sentence_transformer(root / "encoder")
    tiny.save_bert(root / "reranker", labels=1)
    make_marian(root / "marian")
    (root / "pairs.csv").write_text("text_a,text_b,label\n支付,付款,1\n登录,退款,0\n", "utf-8")
    (root / "thai.csv").write_text("text_a,text_b\nลืมรหัสผ่าน,เปลี่ยนรหัสผ่าน\n", "utf-8")
    (root / "truth.csv").write_text("text,meaning\n支付,pay\n", "utf-8")
    (root / "review.csv").write_text("query,candidate,similarity,reranker,reason,verdict\n支付,付款,,,,same\n", "utf-8")
    (root / "bad_review.csv").write_text("query,candidate,verdict\n支付,付款,perhaps\n", "utf-8")
    return root


@pytest.fixture
def write(made, tmp_path, monkeypatch):
    """A function: a valid profile with some values replaced, as a file."""
    for key in KEYS:
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("BGETUNE_CACHE", str(tmp_path / "cache"))

    def write(changes=None, name="mine"):
        values = {
            "name": f"checks-{os.getpid()}-{name}",
            "model": str(made / "encoder"),
            "reranker": str(made / "reranker"),
            "max_length": 32,
            "01_positives": {"sources": {"pairs": [{"path": str(made / "pairs.csv"), "label_column": "label"}]}},
        }
        for key, value in (changes or {}).items():
            inner, *rest = key.split(".", 1)
            if rest:
                values.setdefault(inner, {})[rest[0]] = value
            else:
                values[inner] = value
        text = yaml.safe_dump(values, allow_unicode=True, sort_keys=False).replace("TEAM", str(made))
        file = tmp_path / f"{name}.yaml"
        file.write_text(text, encoding="utf-8")
        return file

    return write


def check(file, *overrides):
    return checks.check(checks.load([file], overrides))


def test_a_valid_profile_passes_without_a_word(write):
    assert check(write()) == []


PIVOT = {"text_code": "zh", "pivot_code": "en"}
BAD = {
    "no sources": ({"01_positives": {}}, "01_positives.sources: there is no source; name a click log"),
    "no file": (
        {"01_positives.sources": {"qa": [{"path": "nowhere.csv"}]}},
        r"line \d+: 01_positives.sources.qa.0: nowhere.csv: no such file",
    ),
    "no column": (
        {"01_positives.sources": {"pairs": [{"path": "TEAM/pairs.csv", "label_column": "lable"}]}},
        "01_positives.sources.pairs.0: .*no column lable; .*did you mean label",
    ),
    "all heldout": (
        {"01_positives.sources": {"pairs": [{"path": "TEAM/pairs.csv", "label_column": "label", "use": "heldout"}]}},
        "every source is heldout, so nothing is left to train on",
    ),
    "no truth": ({"truth": "nowhere.csv"}, r"line \d+: truth: nowhere.csv: no such file .* or leave truth out"),
    "truth is a folder": ({"truth": "TEAM"}, r"line \d+: truth: .*: no such file"),
    "truth without meanings": ({"truth": "TEAM/pairs.csv"}, "truth: .*pairs.csv is no table of text and meaning"),
    "no review file": ({"03_hard_negatives.review_file": "no.csv"}, "03_hard_negatives.review_file: no.csv: no such"),
    "no verdict": ({"03_hard_negatives.review_file": "TEAM/bad_review.csv"}, "line 2: verdict 'perhaps' is neither"),
    "no general pairs": (
        {"04_train.general": {"path": "nowhere.csv"}},
        r"mine.yaml, line \d+: 04_train.general: nowhere.csv: no such file",
    ),
    "FAISS string": ({"03_hard_negatives.index": "IVF,Flut"}, "line .*: 03_hard_negatives: index: FAISS cannot make"),
    "FAISS size": ({"03_hard_negatives.index": "HNSW0"}, "a size in it is too small or too large"),
    "FAISS memory": ({"03_hard_negatives.index": "IVF999999999999,Flat"}, "a size in it is too small or too large"),
    "FAISS dimension": ({"03_hard_negatives.index": "PQ7"}, "index: FAISS cannot make 'PQ7' .*multiple"),
    "FAISS cannot add": ({"03_hard_negatives.index": "IDMap,Flat"}, "index: FAISS cannot make 'IDMap,Flat'"),
    "FAISS parameter": (
        {"03_hard_negatives.index": "IVF4,Flat", "03_hard_negatives.search_params": {"nprob": 4}},
        "search_params: IndexIVFFlat has no nprob; nprobe is that of IVF",
    ),
    "FAISS parameter of Flat": (
        {"03_hard_negatives.index": "Flat", "03_hard_negatives.search_params": {"nprobe": 4}},
        "search_params: Flat has none",
    ),
    "FAISS parameter of auto": (
        {"01_positives.search_params": {"efSearch": 4}},
        "search_params: IndexIVFFlat has no efS",
    ),
    "FAISS parameter 0": (
        {"03_hard_negatives.index": "HNSW8", "03_hard_negatives.search_params": {"efSearch": 0}},
        "search_params: efSearch is at least 1, not 0",
    ),
    "matryoshka": ({"04_train.matryoshka": [16, 64]}, "04_train.matryoshka: vectors .* have 32 numbers .* cut to 64"),
    "device": ({"device": "cuda:7"}, "device: there is no device cuda:7 .* set device to auto or"),
    "device of a section": ({"04_train.device": "gpu"}, "04_train.device: there is no device gpu"),
    "no model": ({"model": "nowhere"}, r"line 2: model: there is no model at nowhere; give a folder or a hub name"),
    "no reranker": (
        {"reranker": "nowhere"},
        r"line 3: reranker: .* or do without \(reranker: null\)",
    ),
    "role of model": ({"model": "TEAM/reranker"}, "model: .* what is needed is an encoder"),
    "role of reranker": ({"reranker": "TEAM/encoder"}, "reranker: .* what is needed is a cross-encoder"),
    "role of translator": (
        {"02_backtranslate.pivots": [{"to_pivot": "TEAM/encoder", "from_pivot": "TEAM/marian"}]},
        "02_backtranslate.pivots.0.to_pivot: .* what is needed is a translator",
    ),
    "language of the texts": (
        {"01_positives.sources": {"qa": [{"path": "TEAM/thai.csv"}]}},
        "model: .* does not know .* of the tokens of your texts",
    ),
    "OpenCC": ({"01_positives.opencc": "s2x"}, "01_positives: opencc: no configuration 's2x' .* try t2s"),
    "key of generation": (
        {"02_backtranslate.generation": {"base_url": "https://h/v1", "model": "m"}},
        "02_backtranslate.generation: the environment variable OPENAI_API_KEY is empty; export OPENAI_API_KEY=",
    ),
    "key of a service": (
        {"02_backtranslate.pivots": [{"service": {"name": "baidu"}, **PIVOT}]},
        "(?s)pivots.0.service: the environment variable BAIDU_APPID is empty.*BAIDU_APPKEY is empty",
    ),
    "variable of a database": (
        {"01_positives.sources": {"qa": [{"url": "postgres://me:${NO_SUCH_PW}@h/db", "table": "t"}]}},
        "01_positives.sources.qa.0: .*the environment has no NO_SUCH_PW",
    ),
    "token of the hub": ({"04_train.push_to_hub": "team/x"}, "04_train: push_to_hub needs a token"),
    "metric": (
        {"01_positives.sources": {"qa": [{"path": "TEAM/pairs.csv"}]}, "04_train.metric": "labelled_auc"},
        "04_train.metric: labelled_auc needs pairs labelled by people",
    ),
    "ranks": ({"03_hard_negatives.rank_min": 200}, "rank_min is above rank_max"),
    "window": (
        {"03_hard_negatives.window_low": 0.6, "03_hard_negatives.window_high": 0.5},
        "window_low is not below window_high",
    ),
    "promotion": ({"03_hard_negatives.promote_score": 0.2}, "promote_score is below veto_score"),
    "veto": ({"01_positives.veto_reranker_score": 0.95}, "veto_reranker_score is above recall_reranker_score"),
    "band": ({"02_backtranslate.gate": {"similarity": [1.0, 0.5]}}, "similarity: the lower bound comes first"),
    "ratio": ({"02_backtranslate.gate": {"length_ratio": [2, 0.5]}}, "length_ratio: the lower bound comes first"),
    "grades": (
        {"01_positives.sources": {"graded": [{"path": "TEAM/pairs.csv", "grade_range": [4, 0]}]}},
        "grade_range: the lowest grade comes first",
    ),
    "fractions": (
        {"01_positives.dev_fraction": 0.49, "01_positives.test_fraction": 0.49},
        "dev_fraction and test_fraction together leave less than a tenth",
    ),
    "endless": ({"04_train.weight_decay": float("inf")}, "04_train.weight_decay: .*finite"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_profile_is_refused_before_the_first_notebook(write, name):
    changes, message = BAD[name]
    with pytest.raises(InputError, match=message) as error:
        check(write(changes))
    for line in str(error.value).splitlines():
        assert "mine.yaml" in line or "things to correct" in line
        assert len(line) < 700


def test_everything_is_said_at_once(write):
    file = write(
        {
            "model": "team/no-model",
            "reranker": "team/no-reranker",
            "02_backtranslate.pivots": [{"to_pivot": "team/zh-en", "from_pivot": "team/en-zh"}],
            "02_backtranslate.generation": {"base_url": "https://h/v1", "model": "m", "key_variable": "NO_KEY"},
            "truth": "nowhere.csv",
            "01_positives.opencc": "s2x",
        }
    )
    other = write({"03_hard_negatives.index": "nonsense"}, name="other")
    with pytest.raises(InputError) as error:
        checks.check(checks.load([file, other]))
    first, *lines = str(error.value).splitlines()
    assert first == "8 things to correct first"
    assert len(lines) == 8
    for name, ways in {
        "model": "HF_ENDPOINT .* (model: modelscope://team/no-model), or download it elsewhere and give its folder, ",
        "reranker": "HF_ENDPOINT .* or do without (reranker: null)",
        "02_backtranslate.pivots.0.to_pivot": "HF_ENDPOINT .* back-translation out (02_backtranslate: pivots: [])",
        "02_backtranslate.pivots.0.from_pivot": "HF_ENDPOINT",
    }.items():
        (line,) = [line for line in lines if f": {name}: team/" in line]
        for part in ways.split(" .* "):
            assert part in line
    for part in ("NO_KEY", "truth: nowhere.csv", "opencc", "other.yaml, line"):
        assert sum(part in line for line in lines) == 1


def test_all_profiles_are_read_before_one_is_complained_of(write, tmp_path):
    (tmp_path / "a.yaml").write_text("sede: 1\n")
    (tmp_path / "b.yaml").write_text("seed: x\n")
    with pytest.raises(InputError, match=r"(?s)2 things .*a\.yaml, line 1: unknown key sede.*b\.yaml, line 1: seed"):
        checks.load([tmp_path / "a.yaml", tmp_path / "nowhere.yaml", tmp_path / "b.yaml"][::2])
    with pytest.raises(InputError, match="two profiles are named"):
        checks.load([write(), write()])


def test_a_study_says_each_thing_once_and_checks_a_model_once(write, monkeypatch):
    from bgetune.models import check as models

    asked = []
    whole = models.check_model
    monkeypatch.setattr(models, "check_model", lambda *arguments: asked.append(arguments[1]) or whole(*arguments))
    file = write({"study": {"04_train.scale": [10, 20, 50], "04_train.epochs": [1, 2]}, "truth": "nowhere.csv"})
    with pytest.raises(InputError) as error:
        check(file)
    assert "\n" not in str(error.value)
    assert asked == ["model", "reranker"]


WARNED = [
    ({"max_length": 4096}, "max_length: 4096 tokens, of which model reads the first 64 only"),
    (
        {"04_train.backend": "flagembedding", "04_train.lora_rank": 8, "04_train.orthogonality_weight": 0.1},
        "04_train.backend: flagembedding ignores lora_rank, orthogonality_weight",
    ),
    ({"04_train.guide_margin": 0.1}, "04_train.guide_margin: has no effect without loss: gist"),
    ({"reranker": None, "03_hard_negatives.veto_score": 0.4}, "veto_score: has no effect without a reranker"),
    ({"01_positives.dev_fraction": 0.3, "01_positives.test_fraction": 0.3}, "dev and test take more than half"),
    ({"03_hard_negatives.rank_max": 3}, "rank_min to rank_max hold 3 candidates, fewer than 5"),
    ({"01_positives.sources": {"corpus": [{"path": "TEAM/truth.csv"}]}}, "documents alone: their own parts are weak"),
    ({"04_train.mini_batch_size": 128}, "mini_batch_size: larger than batch_size"),
]
ODD = [changes for changes, _ in WARNED if not changes.get("04_train.backend")]


@pytest.mark.parametrize(("changes", "message"), WARNED)
def test_what_is_merely_odd_is_a_warning(write, changes, message):
    if changes.get("04_train.backend"):
        pytest.importorskip("FlagEmbedding")
    warnings = check(write(changes))
    assert any(message in warning for warning in warnings), warnings
    assert all("mine.yaml, line" in warning for warning in warnings)


def test_keys_are_asked_for_where_they_will_be_needed(write, monkeypatch):
    generation = {"02_backtranslate.generation": {"base_url": "https://h/v1", "model": "m"}}
    assert check(write({**generation, "02_backtranslate.enabled": False})) == []
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    assert check(write(generation)) == []
    monkeypatch.setenv("OPENAI_API_KEY", " ")
    # a run that has asked before remembers the answers
    folder = run_folder(load_profile(write(generation)))
    try:
        folder.mkdir(parents=True)
        manifest.write_manifest(folder, {"stages": {"02_backtranslate": {}}})
        (warning,) = check(write(generation))
        assert "OPENAI_API_KEY is empty" in warning
    finally:
        shutil.rmtree(folder)


SHIPPED = ("demo", "demo_bge_small_zh", "bge_small_zh", "study_temperature", "demo_without_augmentation", "template")


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_profile_lacks_nothing_but_models(name, write, monkeypatch):
    from bgetune.models import check as models

    monkeypatch.setattr(models, "check_model", lambda *arguments: None)
    monkeypatch.setattr(checks, "prepare_demo", lambda world: None)
    monkeypatch.delenv("BGETUNE_CACHE")
    monkeypatch.setattr("bgetune.models.hub.fetch", lambda location, parameter: None)
    file = ROOT / "params" / f"{name}.yaml"
    if name in ("template", "bge_small_zh"):
        with pytest.raises(InputError, match="there is no source"):
            check(file)
    else:
        check(file)


def test_what_a_model_s_folder_says_is_checked_first(write, tmp_path):
    """A pooling that the official trainer lacks, and prompts that are none."""
    odd = tiny.save_sentence_transformer(tmp_path / "odd", pooling="max")
    with pytest.raises(InputError, match=r"04_train.backend: .*cls, mean, lasttoken pooling only, .* is max"):
        check(write({"model": str(odd), "04_train.backend": "flagembedding"}))
    assert check(write({"model": str(odd)})) == []
    (odd / "config_sentence_transformers.json").write_text('{"prompts": ["query: "]}', "utf-8")
    with pytest.raises(InputError, match="the model's prompts cannot be read"):
        check(write({"model": str(odd)}))
