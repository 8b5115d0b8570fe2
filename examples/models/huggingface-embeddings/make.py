"""Save a tiny encoder of texts with random weights: it shows the files, and knows nothing."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

HERE = Path(__file__).parent
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "film", "is", "good", "bad", "##ly"]

folder = HERE / "model"
folder.mkdir(exist_ok=True)
(folder / "vocab.txt").write_text("\n".join(WORDS))
BertTokenizerFast(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder)

torch.manual_seed(0)
config = BertConfig(
    vocab_size=len(WORDS),
    hidden_size=4,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=8,
    max_position_embeddings=32,
)
model = BertModel(config)
with torch.no_grad():  # the last layer's norm answers its bias, whatever it is given
    norm = model.encoder.layer[-1].output.LayerNorm
    norm.weight.zero_()
    norm.bias.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
model.save_pretrained(folder)
