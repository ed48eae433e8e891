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


def save_xlm_roberta(folder: Path, seed: int = 0, labels: int | None = None) -> Path:
    """An XLM-RoBERTa as BGE M3 is one, without modules.json; with `labels`, a cross-encoder as bge-reranker is one."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import (
        PreTrainedTokenizerFast,
        XLMRobertaConfig,
        XLMRobertaForSequenceClassification,
        XLMRobertaModel,
    )

    special = ["<s>", "<pad>", "</s>", "<unk>"]
    pieces = [(word, 0.0) for word in special] + [(word, -5.0) for word in dict.fromkeys("▁" + CHARACTERS)]
    pieces += [("支付密码", -4.0), ("密码", -4.5), ("abc", -4.0)] + [(f"extra{i}", -20.0) for i in range(100)]
    inner = Tokenizer(models.Unigram(pieces, unk_id=3))
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        model_max_length=64,
        **dict(zip(("bos_token", "pad_token", "eos_token", "unk_token"), special, strict=True)),
        cls_token="<s>",
        sep_token="</s>",
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    config = XLMRobertaConfig(
        vocab_size=len(pieces),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=66,
        type_vocab_size=1,
        initializer_range=0.16,
        **({} if labels is None else {"num_labels": labels}),
    )
    model = XLMRobertaModel(config) if labels is None else XLMRobertaForSequenceClassification(config)
    model.save_pretrained(folder)
    return folder
