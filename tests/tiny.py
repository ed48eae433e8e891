"""Tiny random models with the layout of the real ones: what a test of loading and caching needs, made in a second."""

from pathlib import Path

CHARACTERS = "支付登录密码忘记了怎么办余额转账退款到查询订单取消abcdefg0123456789:，。"


def save_tokenizer(folder: Path) -> int:
    """A character tokenizer; returns the size of its vocabulary."""
    from transformers import BertTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(CHARACTERS)]
    tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(words)})
    tokenizer.model_max_length = 64
    tokenizer.save_pretrained(folder)
    return len(words)


def save_bert(folder: Path, seed: int = 0, labels: int | None = None) -> Path:
    """A plain BERT folder as FlagEmbedding's trainer leaves it; with `labels`, a cross-encoder."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertModel

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=save_tokenizer(folder),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        **({} if labels is None else {"num_labels": labels}),
    )
    model = BertModel(config) if labels is None else BertForSequenceClassification(config)
    with torch.no_grad():  # large weights: random texts then get clearly different results
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8)
    model.save_pretrained(folder)
    return folder


def save_sentence_transformer(folder: Path, pooling: str = "cls", seed: int = 0) -> Path:
    """The same BERT as a sentence-transformers folder."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    bert = save_bert(folder.with_name(f"{folder.name}-bert"), seed)
    transformer = modules.Transformer(str(bert))
    parts = [transformer, modules.Pooling(32, pooling), modules.Normalize()]
    SentenceTransformer(modules=parts, device="cpu").save_pretrained(str(folder))
    return folder
