"""A world small enough to train on in a second: questions about actions on things, each asked in several ways."""

import itertools

import pandas as pd
import pytest

from bgetune.data.text import text_id
from bgetune.training.groups import Group, cluster_numbers

ACTIONS = ["查询", "修改", "取消", "冻结", "申请", "绑定"]
THINGS = ["密码", "订单", "贷款", "账单", "银行卡"]
WAYS = ["怎么{}{}", "如何{}我的{}", "我想{}{}", "请问{}{}在哪里"]


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Models this small only wait for a second thread."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def world():
    """Tables texts and clusters, and a group for every question: all other ways to ask as positives, and as hard
    negatives the same action on another thing."""
    asked = {
        (action, thing): [way.format(action, thing) for way in WAYS]
        for action, thing in itertools.product(ACTIONS, THINGS)
    }
    rows = [(text_id(text), text, text_id(ways[0])) for ways in asked.values() for text in ways]
    texts = pd.DataFrame([(i, text, "query", 1) for i, text, _ in rows], columns=["text_id", "text", "kind", "count"])
    clusters = pd.DataFrame(
        [(i, cluster, "train") for i, _, cluster in rows], columns=["text_id", "cluster_id", "split"]
    )
    groups = [
        Group(
            text,
            tuple(other for other in ways if other != text),
            tuple(asked[action, other][way] for other in THINGS if other != thing),
            source="given",
        )
        for (action, thing), ways in asked.items()
        for way, text in enumerate(ways)
    ]
    return texts, clusters, groups


@pytest.fixture(scope="session")
def groups(world):
    return world[2]


@pytest.fixture(scope="session")
def cluster_of(world):
    texts, clusters, groups = world
    return cluster_numbers(groups, texts, clusters)


@pytest.fixture(scope="session")
def dev_pairs():
    """Pairs about a thing that no group mentions."""
    texts = [[way.format(action, "地址") for way in WAYS] for action in ACTIONS]
    rows = [(ways[0], way, 1, "positive") for ways in texts for way in ways[1:]]
    rows += [(a[0], b[1], 0, "hard_negative") for a, b in itertools.permutations(texts, 2)]
    rows += [(a[2], b[3], 0, "random") for a, b in itertools.permutations(texts, 2)]
    return pd.DataFrame(rows, columns=["query", "text", "label", "kind"])


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """The folder of an untrained BERT with two layers, as sentence-transformers saves it."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("models")
    letters = sorted(set("".join([*ACTIONS, *THINGS, *WAYS, "地址问答"])) - set("{}"))
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters]), "utf-8")
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        initializer_range=0.2,
    )
    BertModel(config).save_pretrained(folder / "bert")
    tokenizer.save_pretrained(folder / "bert")
    bert = modules.Transformer(str(folder / "bert"))
    model = SentenceTransformer(modules=[bert, modules.Pooling(32, "cls"), modules.Normalize()], device="cpu")
    model.save_pretrained(str(folder / "base"), create_model_card=False)
    return folder / "base"


@pytest.fixture(scope="session")
def readers():
    """A function: the vectors of some texts, as documents and as queries, as each of the three readers of a model's
    folder gives them. The model was saved with the instruction 请问."""
    from FlagEmbedding import FlagModel
    from sentence_transformers import SentenceTransformer

    from bgetune.models.encoder import Encoder

    texts = ["怎么查询密码", "如何修改我的订单", "我想取消贷款", "请问冻结账单在哪里", "密"]

    def read(folder):
        ours = Encoder(folder, device="cpu", cache_dir=None)
        theirs = SentenceTransformer(str(folder), device="cpu")
        flag = FlagModel(str(folder), query_instruction_for_retrieval="请问", use_fp16=False, devices="cpu")
        return {
            "bgetune": (ours.encode(texts), ours.encode(texts, prompt="请问")),
            "sentence-transformers": (theirs.encode(texts), theirs.encode(texts, prompt_name="query")),
            "FlagEmbedding": (flag.encode_corpus(texts), flag.encode_queries(texts)),
        }

    return read
