"""README.md of an exported model: what it is, and code that uses it as it was trained."""

from __future__ import annotations

from crossover.trainers.trained import TrainedModel

__all__ = ["readme"]


def readme(trained: TrainedModel) -> str:
    """The text; its Python block runs in the folder."""
    facts, vocabulary = trained.facts, trained.vocabulary
    usage = _CAUSAL if trained.objective.causal else _BIDIRECTIONAL
    return f"""# {trained.objective.name} {trained.name}

Trained by Crossover on {facts.unique_tokens:,} unique tokens of {facts.corpus}: {facts.num_params_with_embeddings:,}
parameters, sequences of {trained.context_tokens} tokens. Averaged weights of the best evaluation, float32; the
architecture is Qwen3's.

Ids: text below {vocabulary.num_text_tokens}, then <|separator|> (ends a document), <|begin|> and <|mask|>. The last two
are only ever read: their logits mean nothing, so take `logits[..., :{vocabulary.num_output_tokens}]`.

{usage.format(prompt="def ", num_output=vocabulary.num_output_tokens)}"""


_CAUSAL = """A text is read after <|begin|>, which the tokenizer puts there.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(".")
tokenizer = AutoTokenizer.from_pretrained(".")
inputs = tokenizer("{prompt}", return_tensors="pt")
logits = model(**inputs).logits[..., :{num_output}]
tokens = model.generate(**inputs, max_new_tokens=8, do_sample=False)
text = tokenizer.decode(tokens[0], skip_special_tokens=True)
```
"""

_BIDIRECTIONAL = """**This is no causal model**: every token sees every other one. `transformers` hides what comes after
a token unless it is given a mask of its own, so give it one that adds 0 everywhere (and the lowest number at padding).
Logits predict the token at their own place, where the input is <|mask|>; `generate` does not apply.

```python
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(".")
tokenizer = AutoTokenizer.from_pretrained(".")
prompt = tokenizer("{prompt}")["input_ids"]
tokens = torch.tensor([prompt + [tokenizer.mask_token_id] * 8])


def predict(tokens):
    batch, length = tokens.shape
    sees_all = torch.zeros(batch, 1, length, length)
    return model(tokens, attention_mask=sees_all).logits[..., :{num_output}]


logits = predict(tokens)
while (masked := tokens == tokenizer.mask_token_id).any():  # the surest first, one a pass
    sureness, token = predict(tokens).softmax(-1).max(-1)
    place = sureness.masked_fill(~masked, -1).argmax(-1)
    tokens[0, place] = token[0, place]
text = tokenizer.decode(tokens[0])
```
"""
