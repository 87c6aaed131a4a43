"""The tokenizer: every byte a token, and three tokens that are no bytes.

`encode` is what training uses; `write` saves the same as the files that engines read. A test of the engine tier holds the two against each other.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from rendering import CHAT_TEMPLATE
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

BEGIN, END, PAD = 0, 1, 2
BEGIN_TEXT, END_TEXT, PAD_TEXT = "<s>", "</s>", "<pad>"
FIRST_BYTE = 3
# Three tokens and 256 bytes, rounded up: one entry is never used.
VOCABULARY = 260
POSITIONS = 512


def encode(text: str) -> list[int]:
    """Token ids of the text, without the tokens that begin and end a sequence."""
    return [byte + FIRST_BYTE for byte in text.encode()]


def write(folder: Path) -> None:
    """Write the tokenizer's files and the chat template into the folder."""
    tokenizer = Tokenizer(models.BPE(vocab=_vocabulary(), merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in (BEGIN_TEXT, END_TEXT, PAD_TEXT)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN_TEXT} $A", pair=f"{BEGIN_TEXT} $A {BEGIN_TEXT} $B", special_tokens=[(BEGIN_TEXT, BEGIN)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"bos_token": BEGIN_TEXT, "eos_token": END_TEXT, "pad_token": PAD_TEXT}
    _save(folder / "special_tokens_map.json", special)
    _save(
        folder / "tokenizer_config.json",
        {
            **special,
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": POSITIONS,
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
        },
    )
    # Engines that ask nothing of the client's sampling get the likeliest answer, not a lottery: an extraction has one right answer.
    _save(
        folder / "generation_config.json", {"bos_token_id": BEGIN, "eos_token_id": END, "pad_token_id": PAD, "do_sample": True, "top_k": 1}
    )


def _vocabulary() -> dict[str, int]:
    return {
        BEGIN_TEXT: BEGIN,
        END_TEXT: END,
        PAD_TEXT: PAD,
        **{letter: byte + FIRST_BYTE for byte, letter in _printable_bytes().items()},
    }


def _printable_bytes() -> dict[int, str]:
    """The letter by which byte-level tokenizers write each byte: itself where it can be printed, else the next free one from 256 on (GPT-2's table)."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + place) for place, byte in enumerate(others)}


def _save(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
