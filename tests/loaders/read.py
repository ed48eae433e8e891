"""Reads a model's folder as one loader does: vectors of the texts of each task, into a .npz file.

    python read.py LOADER FOLDER TEXTS.json VECTORS.npz

Imports nothing of bgetune: it runs in environments with other versions of the libraries.
"""

import json
import sys
from pathlib import Path

import numpy as np


def sentence_transformers(folder, texts):
    """By the names of the prompts, as the model card says."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(folder, device="cpu")
    names = {"query": "query", "document": "document", "symmetric": None}
    return {
        task: model.encode(texts, batch_size=4, show_progress_bar=False, **({"prompt_name": name} if name else {}))
        for task, name in names.items()
    }


def flag_model(folder, texts):
    """FlagEmbedding, called as the model card says."""
    from FlagEmbedding import FlagModel

    prompts, pooling, length, _ = _settings(folder)
    model = FlagModel(
        folder,
        pooling_method=pooling,
        query_instruction_for_retrieval=prompts["query"] or None,
        passage_instruction_for_retrieval=prompts["document"] or None,
        query_max_length=length,
        passage_max_length=length,
        use_fp16=False,
        devices="cpu",
    )
    return {"query": model.encode_queries(texts), "document": model.encode_corpus(texts)}


def transformers(folder, texts):
    """transformers alone: pooling and prompts by hand."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval().float()
    prompts, pooling, length, _ = _settings(folder)

    def encode(prompt):
        batch = tokenizer(
            [prompt + text for text in texts], padding=True, truncation=True, max_length=length, return_tensors="pt"
        )
        with torch.inference_mode():
            tokens = model(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1)
        rows = tokens[:, 0] if pooling == "cls" else (tokens * mask).sum(1) / mask.sum(1)
        return torch.nn.functional.normalize(rows, dim=1).numpy()

    return {task: encode(prompt) for task, prompt in prompts.items()}


def onnx_runtime(folder, texts):
    """The graph and tokenizer in the folder `onnx` beside the model: no torch, no transformers."""
    import onnxruntime
    from tokenizers import Tokenizer

    beside = Path(folder).parent / "onnx"
    tokenizer = Tokenizer.from_file(str(beside / "tokenizer.json"))
    session = onnxruntime.InferenceSession(beside / "float32.onnx", providers=["CPUExecutionProvider"])
    wanted = [node.name for node in session.get_inputs()]

    def encode(prompt):
        encoded = tokenizer.encode_batch([prompt + text for text in texts])
        columns = {
            "input_ids": [text.ids for text in encoded],
            "attention_mask": [text.attention_mask for text in encoded],
            "token_type_ids": [text.type_ids for text in encoded],
        }
        return session.run(None, {name: np.array(columns[name], dtype=np.int64) for name in wanted})[0]

    return {task: encode(prompt) for task, prompt in _settings(folder)[0].items()}


def infinity(folder, texts):
    """Infinity's engine, which serves the model over HTTP elsewhere; prompts are the caller's."""
    import asyncio

    from infinity_emb import AsyncEmbeddingEngine, EngineArgs

    options = {"engine": "torch", "device": "cpu", "dtype": "float32", "batch_size": 4, "model_warmup": False}
    options |= {"compile": False, "bettertransformer": False, "trust_remote_code": False}
    engine = AsyncEmbeddingEngine.from_args(EngineArgs(model_name_or_path=folder, **options))

    async def encode():
        found = {}
        async with engine:
            for task, prompt in _settings(folder)[0].items():
                found[task] = np.stack((await engine.embed([prompt + text for text in texts]))[0])
        return found

    return asyncio.run(encode())


LOADERS = {
    "sentence-transformers": sentence_transformers,
    "FlagModel": flag_model,
    "transformers": transformers,
    "ONNX Runtime": onnx_runtime,
    "Infinity": infinity,
}


def _settings(folder):
    """Prompts by task, pooling, tokens of a text and whether it is made lower case, from the files of the folder."""
    folder = Path(folder)
    saved = json.loads((folder / "config_sentence_transformers.json").read_text("utf-8"))
    prompts = {task: saved["prompts"][task] for task in ("query", "document")}
    prompts["symmetric"] = saved["prompts"].get(saved["default_prompt_name"], "")
    flags = json.loads((folder / "1_Pooling" / "config.json").read_text("utf-8"))
    pooling = "cls" if flags["pooling_mode_cls_token"] else "mean"
    transformer = json.loads((folder / "sentence_bert_config.json").read_text("utf-8"))
    return prompts, pooling, transformer["max_seq_length"], transformer["do_lower_case"]


if __name__ == "__main__":
    loader, folder, texts, target = sys.argv[1:]
    np.savez(target, **LOADERS[loader](folder, json.loads(Path(texts).read_text("utf-8"))))
