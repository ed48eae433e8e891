"""The models that params/bge_small_zh.yaml names as their owners publish them: the same files, the same keys and values
of the configurations, only few and random weights."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

BGE, RERANKER = "BAAI/bge-small-zh-v1.5", "BAAI/bge-reranker-v2-m3"
TO_PIVOT, FROM_PIVOT = "Helsinki-NLP/opus-mt-zh-en", "Helsinki-NLP/opus-mt-en-zh"
ENGLISH = ["how do I reset my password", "where is my order", "cancel the refund", "query the balance of the account"]

BERT = {
    "_name_or_path": "/root/.cache/torch/sentence_transformers/BAAI_bge-small-zh/",
    "architectures": ["BertModel"],
    "attention_probs_dropout_prob": 0.1,
    "classifier_dropout": None,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 32,  # 512
    "id2label": {"0": "LABEL_0"},
    "initializer_range": 0.02,
    "intermediate_size": 64,  # 2048
    "label2id": {"LABEL_0": 0},
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "model_type": "bert",
    "num_attention_heads": 2,  # 8
    "num_hidden_layers": 2,  # 4
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
    "torch_dtype": "float32",
    "transformers_version": "4.30.0.dev0",
    "type_vocab_size": 2,
    "use_cache": True,
}
XLM_R = {
    "_name_or_path": "BAAI/bge-m3",
    "architectures": ["XLMRobertaForSequenceClassification"],
    "attention_probs_dropout_prob": 0.1,
    "bos_token_id": 0,
    "classifier_dropout": None,
    "eos_token_id": 2,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 32,  # 1024
    "id2label": {"0": "LABEL_0"},
    "initializer_range": 0.02,
    "intermediate_size": 64,  # 4096
    "label2id": {"LABEL_0": 0},
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 514,  # 8194
    "model_type": "xlm-roberta",
    "num_attention_heads": 2,  # 16
    "num_hidden_layers": 2,  # 24
    "output_past": True,
    "pad_token_id": 1,
    "position_embedding_type": "absolute",
    "torch_dtype": "float32",
    "transformers_version": "4.38.1",
    "type_vocab_size": 1,
    "use_cache": True,
}
MARIAN = {
    "activation_dropout": 0.0,
    "activation_function": "swish",
    "add_bias_logits": False,
    "add_final_layernorm": False,
    "architectures": ["MarianMTModel"],
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "classif_dropout": 0.0,
    "classifier_dropout": 0.0,
    "d_model": 32,  # 512
    "decoder_attention_heads": 2,  # 8
    "decoder_ffn_dim": 64,  # 2048
    "decoder_layerdrop": 0.0,
    "decoder_layers": 1,  # 6
    "dropout": 0.1,
    "encoder_attention_heads": 2,  # 8
    "encoder_ffn_dim": 64,  # 2048
    "encoder_layerdrop": 0.0,
    "encoder_layers": 1,  # 6
    "eos_token_id": 0,
    "forced_eos_token_id": 0,
    "force_bos_token_to_be_generated": False,
    "gradient_checkpointing": False,
    "id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"},
    "init_std": 0.02,
    "is_encoder_decoder": True,
    "label2id": {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2},
    "max_length": 512,
    "max_position_embeddings": 512,
    "model_type": "marian",
    "normalize_before": False,
    "normalize_embedding": False,
    "num_beams": 6,
    "num_hidden_layers": 1,  # 6
    "scale_embedding": True,
    "share_encoder_decoder_embeddings": True,
    "static_position_embeddings": True,
    "transformers_version": "4.22.0.dev0",
    "use_cache": True,
}


def publish(hub: Path, texts: list[str]) -> None:
    """Write the four models below a folder that `local_hub.LocalHub` serves.

    Args:
        texts: that the tokenizers know.
    """
    characters = "".join(sorted(set("".join(texts).lower()) - {" "}))
    _bge(hub / BGE, characters)
    _reranker(hub / RERANKER, texts)
    _marian(hub / TO_PIVOT, texts, ENGLISH, {"source_lang": "zho", "target_lang": "eng"})
    _marian(hub / FROM_PIVOT, ENGLISH, texts, {"source_lang": "eng", "target_lang": "zho"}, codes=(">>cmn_Hans<<",))


def _write(folder: Path, files: dict[str, object]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, indent=2)
        (folder / name).write_text(text, encoding="utf-8")


def _weights(model, file: Path, **more) -> None:
    """As their owners saved them; large random numbers, so that texts get clearly different results."""
    import torch
    from safetensors.torch import save_file

    kept, seen = {}, set()
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen:  # of tied weights, one
            seen.add(tensor.data_ptr())
            kept[name] = (tensor * 8 if tensor.dim() > 1 and "embed_positions" not in name else tensor).contiguous()
    save_file(kept | more, file, metadata={"format": "pt"})
    torch.save({}, file.with_name("pytorch_model.bin"))


def _bge(folder: Path, characters: str) -> None:
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    folder.mkdir(parents=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters]
    BertTokenizer(vocab={word: number for number, word in enumerate(words)}).save_pretrained(folder)
    config = BERT | {"vocab_size": len(words)}
    special = {"cls_token": "[CLS]", "mask_token": "[MASK]", "pad_token": "[PAD]", "sep_token": "[SEP]"}
    special["unk_token"] = "[UNK]"
    pooling = {"word_embedding_dimension": BERT["hidden_size"], "pooling_mode_cls_token": True}
    pooling |= {f"pooling_mode_{name}": False for name in ("mean_tokens", "max_tokens", "mean_sqrt_len_tokens")}
    parts = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    modules = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (path, kind) in enumerate(parts)
    ]
    versions = {"sentence_transformers": "2.2.2", "transformers": "4.28.1", "pytorch": "1.13.0+cu117"}
    tokenizer = {"clean_up_tokenization_spaces": True, "do_basic_tokenize": True, "do_lower_case": True} | special
    tokenizer |= {"model_max_length": 1000000000000000019884624838656, "never_split": None, "strip_accents": None}
    tokenizer |= {"tokenize_chinese_chars": True, "tokenizer_class": "BertTokenizer"}
    _write(
        folder,
        {
            "README.md": "---\nlicense: mit\n---\n",
            "config.json": config,
            "modules.json": modules,
            "1_Pooling/config.json": pooling,
            "config_sentence_transformers.json": {"__version__": versions},
            "sentence_bert_config.json": {"max_seq_length": 512, "do_lower_case": True},
            "special_tokens_map.json": special,
            "tokenizer_config.json": tokenizer,
            "vocab.txt": "\n".join(words) + "\n",
        },
    )
    torch.manual_seed(0)
    model = BertModel(BertConfig(**config))
    _weights(model, folder / "model.safetensors", **{"embeddings.position_ids": torch.arange(512)[None]})


def _pieces(texts: list[str], kind: str, size: int) -> bytes:
    import sentencepiece

    trained = BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=trained,
        model_type=kind,
        vocab_size=size,
        hard_vocab_limit=False,
        character_coverage=1.0,
        num_threads=1,
        minloglevel=2,
    )
    return trained.getvalue()


def _reranker(folder: Path, texts: list[str]) -> None:
    import sentencepiece
    import torch
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification

    folder.mkdir(parents=True)
    trained = _pieces(texts, "unigram", 400)
    (folder / "sentencepiece.bpe.model").write_bytes(trained)
    read = sentencepiece.SentencePieceProcessor(model_proto=trained)
    names = ["<s>", "<pad>", "</s>", "<unk>"]  # fairseq's order; SentencePiece has <unk>, <s>, </s> first
    pieces = [(name, 0.0) for name in names]
    pieces += [(read.id_to_piece(n), read.get_score(n)) for n in range(3, read.get_piece_size())]
    pieces.append(("<mask>", 0.0))
    inner = Tokenizer(models.Unigram(pieces, unk_id=3))
    inner.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("  ", " ")])
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Metaspace()
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    inner.add_special_tokens([*names, "<mask>"])
    inner.save(str(folder / "tokenizer.json"))
    special = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "sep_token": "</s>"}
    special |= {"unk_token": "<unk>", "mask_token": "<mask>"}
    tokenizer = special | {"clean_up_tokenization_spaces": True, "model_max_length": 8192, "sp_model_kwargs": {}}
    config = XLM_R | {"vocab_size": len(pieces)}
    _write(
        folder,
        {
            "README.md": "---\nlicense: apache-2.0\n---\n",
            "config.json": config,
            "special_tokens_map.json": special,
            "tokenizer_config.json": tokenizer | {"tokenizer_class": "XLMRobertaTokenizer"},
        },
    )
    torch.manual_seed(1)
    model = XLMRobertaForSequenceClassification(XLMRobertaConfig(**config))
    torch.nn.init.constant_(model.classifier.out_proj.bias, -3)  # no pair is the same to it: it vetoes no negative
    _weights(model, folder / "model.safetensors")
    (folder / "pytorch_model.bin").unlink()  # it has safetensors alone


def _marian(folder: Path, sources: list[str], targets: list[str], languages: dict, codes: tuple[str, ...] = ()) -> None:
    """main has pickled weights alone; the hub's converter offers safetensors in a pull request."""
    import shutil

    import sentencepiece
    import torch
    from transformers import MarianConfig, MarianMTModel

    folder.mkdir(parents=True)
    pieces = ["</s>", "<unk>", *codes]
    for name, texts in (("source.spm", sources), ("target.spm", targets)):
        trained = _pieces(texts, "unigram", 200)
        (folder / name).write_bytes(trained)
        read = sentencepiece.SentencePieceProcessor(model_proto=trained)
        pieces += [read.id_to_piece(number) for number in range(3, read.get_piece_size())]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys([*pieces, "<pad>"]))}
    pad = vocabulary["<pad>"]
    config = MARIAN | {"vocab_size": len(vocabulary), "decoder_vocab_size": len(vocabulary)}
    config |= {"bad_words_ids": [[pad]], "decoder_start_token_id": pad, "pad_token_id": pad}
    config["extra_pos_embeddings"] = len(vocabulary)
    generation = {"_from_model_config": True, "bad_words_ids": [[pad]], "bos_token_id": 0, "eos_token_id": 0}
    generation |= {"decoder_start_token_id": pad, "forced_eos_token_id": 0, "max_length": 512, "num_beams": 6}
    _write(
        folder,
        {
            "README.md": "---\nlicense: cc-by-4.0\n---\n",
            "config.json": config,
            "generation_config.json": generation | {"pad_token_id": pad, "transformers_version": "4.32.0.dev0"},
            "metadata.json": {"src_alpha2": "zh", "tgt_alpha2": "en"},
            "tokenizer_config.json": languages | {"model_max_length": 512},
            "vocab.json": vocabulary,
        },
    )
    torch.manual_seed(2)
    shapes = {key: value for key, value in config.items() if key not in ("bad_words_ids", "max_length", "num_beams")}
    _weights(MarianMTModel(MarianConfig(**shapes)), folder / "model.safetensors")
    offered = folder.with_name(f"{folder.name}@pr")
    shutil.copytree(folder, offered, ignore=shutil.ignore_patterns("pytorch_model.bin"))
    (folder / "model.safetensors").unlink()
