"""Base and adapters: their shapes, how they learn, how well they do.

A run is reproducible on one machine; between machines sums are rounded differently, so weights differ in their last digits while scores do not.
"""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import tokenizer
import torch
from invoices import FIELDS, held_out_lines, training_line
from peft import LoraConfig, PeftModel, get_peft_model
from rendering import Example, naming_example, prompt, task_example
from transformers import LlamaConfig, LlamaForCausalLM

# What adapters are bound to. Not a place to download from: whoever checks an adapter compares this name.
BASE_NAME = "taskfleet/tiny-invoices"
IGNORED = -100
BATCH = 32
# Lines that measure a model are drawn with seeds of their own, apart from those of the golden sets.
MEASURING_SEED = 90_001


@dataclass(frozen=True, slots=True)
class Batch:
    tokens: torch.Tensor
    labels: torch.Tensor


def new_base(seed: int) -> LlamaForCausalLM:
    """An untrained base. head_dim 32 is the least that vLLM's attention on CPU accepts."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=tokenizer.VOCABULARY,
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            head_dim=32,
            max_position_embeddings=tokenizer.POSITIONS,
            bos_token_id=tokenizer.BEGIN,
            eos_token_id=tokenizer.END,
            pad_token_id=tokenizer.PAD,
            tie_word_embeddings=False,
        )
    )


def new_adapter(base: LlamaForCausalLM, seed: int) -> PeftModel:
    """The base with an untrained LoRA of rank 8 on all four projections of the attention."""
    torch.manual_seed(seed)
    shape = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], task_type="CAUSAL_LM", lora_dropout=0.0)
    adapter = get_peft_model(base, shape)
    adapter.peft_config["default"].base_model_name_or_path = BASE_NAME
    return adapter


def naming_examples(seed: int, easy: int) -> Iterator[Example]:
    """What the base learns from. The first `easy` examples have one or two fields in the line: finding and copying are learned there in a fraction of the
    time that whole lines take, and whole lines are learned quickly after.
    """
    source = random.Random(seed)
    for place in count():
        field = source.choice(FIELDS)
        shown = FIELDS if place >= easy else tuple(dict.fromkeys((field, source.choice(FIELDS))))
        yield naming_example(training_line(source, shown), field, source)


def task_examples(field: str, seed: int) -> Iterator[Example]:
    """What an adapter learns from."""
    source = random.Random(seed)
    while True:
        yield task_example(training_line(source), field, source)


def learn(
    model: torch.nn.Module,
    examples: Iterator[Example],
    *,
    steps: int,
    peak_rate: float,
    checkpoint: Callable[[int], None] = lambda _: None,
) -> None:
    """Train the parameters that want it for `steps` batches. `checkpoint` is called with the count of steps done, every 250."""
    wanting = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(wanting, lr=peak_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak_rate, total_steps=steps, pct_start=0.1)
    started = time.monotonic()
    model.train()
    for step in range(1, steps + 1):
        batch = _batch(list(islice(examples, BATCH)))
        # No attention mask: padding stands right of everything that counts, and attention looks left only.
        loss = model(input_ids=batch.tokens, labels=batch.labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(wanting, 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps:
            print(f"step {step}/{steps}  loss {loss.item():.4f}  {time.monotonic() - started:.0f} s", flush=True)
        if step % 250 == 0:
            checkpoint(step)


def named_score(model: torch.nn.Module, field: str, lines: int, seed: int = MEASURING_SEED) -> float:
    """Share (0 to 1) of fresh lines of which the field named in the prompt is answered exactly."""
    return _score(
        model, [Example(prompt(f"{field}? {invoice.line}"), invoice.field(field)) for invoice in islice(held_out_lines(seed), lines)]
    )


def task_score(model: torch.nn.Module, field: str, lines: int, seed: int = MEASURING_SEED) -> float:
    """Share (0 to 1) of fresh lines answered exactly by this field, though the prompt doesn't name it."""
    return _score(model, [Example(prompt(invoice.line), invoice.field(field)) for invoice in islice(held_out_lines(seed), lines)])


def load_base(folder: Path) -> LlamaForCausalLM:
    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)


def _score(model: torch.nn.Module, examples: list[Example]) -> float:
    """A greedy answer is exact if, and only if, every token of the expected answer is the likeliest after those before it: one pass shows it."""
    model.eval()
    exact = 0
    with torch.no_grad():
        for start in range(0, len(examples), BATCH):
            batch = _batch(examples[start : start + BATCH])
            guesses = model(input_ids=batch.tokens).logits[:, :-1].argmax(-1)
            labels = batch.labels[:, 1:]
            exact += int(((guesses == labels) | (labels == IGNORED)).all(-1).sum())
    return exact / len(examples)


def _batch(examples: list[Example]) -> Batch:
    rows = []
    for example in examples:
        question = [tokenizer.BEGIN, *tokenizer.encode(example.prompt)]
        answer = [*tokenizer.encode(example.answer), tokenizer.END]
        rows.append((question + answer, [IGNORED] * (len(question) + example.given) + answer[example.given :]))
    longest = max(len(tokens) for tokens, _ in rows)
    return Batch(
        torch.tensor([tokens + [tokenizer.PAD] * (longest - len(tokens)) for tokens, _ in rows]),
        torch.tensor([labels + [IGNORED] * (longest - len(labels)) for _, labels in rows]),
    )
