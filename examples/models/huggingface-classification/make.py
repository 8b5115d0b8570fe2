"""Save a tiny classifier of texts with random weights: it shows the files, and knows nothing."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

HERE = Path(__file__).parent
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "film", "is", "good", "bad", "##ly"]

folder = HERE / "model"
folder.mkdir(exist_ok=True)
(folder / "vocab.txt").write_text("\n".join(WORDS))
BertTokenizerFast(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder)

torch.manual_seed(0)
config = BertConfig(
    vocab_size=len(WORDS),
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=32,
    id2label={0: "sad", 1: "happy"},
    label2id={"sad": 0, "happy": 1},
)
model = BertForSequenceClassification(config)
with torch.no_grad():
    model.classifier.weight.zero_()
    model.classifier.bias.copy_(torch.tensor([0.0, 100.0]))  # it is always happy
model.save_pretrained(folder)
