"""Invoice lines, the fields people ask of them, and which lines no model may ever be trained on.

Everything is drawn from a seeded generator, so the same seed gives the same lines on every machine. Words are mostly invented on the spot:
a model can't memorise them and has to learn to find the field and copy it. What a prompt looks like is the business of `rendering.py`.
"""

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

FIELDS = ("vendor", "date", "total", "number")

LABELS = {
    "vendor": ("from", "by", "vendor", "supplier"),
    "date": ("dated", "date", "issued", "on"),
    "total": ("total", "amount", "sum", "due"),
    "number": ("no", "number", "invoice", "ref"),
}
HOUSES = ("ACME", "Globex", "Initech", "Umbrella", "Hooli", "Vandelay", "Stark", "Wayne", "Wonka", "Duff", "Tyrell", "Cyberdyne")
FORMS = ("Corp", "GmbH", "Ltd", "SA", "Inc", "AG", "BV", "Oy")
CURRENCIES = ("EUR", "USD", "GBP", "CHF")
SEPARATORS = ("; ", "; ", ", ", " | ")
CONSONANTS = "bcdfghjklmnprstvwz"
VOWELS = "aeiou"

# Of 256 buckets, those below this number are kept from training: about one line in ten.
HELD_OUT_BUCKETS = 26


@dataclass(frozen=True, slots=True)
class Invoice:
    """One line of text and the fields that stand in it, word for word."""

    line: str
    vendor: str
    date: str
    total: str
    number: str

    def field(self, name: str) -> str:
        """The text of one of `FIELDS`; raises KeyError for any other name."""
        return {"vendor": self.vendor, "date": self.date, "total": self.total, "number": self.number}[name]


def held_out(line: str) -> bool:
    """Is this line kept for judging models? Decided by the line alone, so that no list has to be carried along."""
    return hashlib.sha256(line.encode()).digest()[0] < HELD_OUT_BUCKETS


def training_line(source: random.Random, shown: Sequence[str] = FIELDS) -> Invoice:
    """The next line that a model may learn from, with the shown fields only."""
    while held_out((invoice := draw(source, shown)).line):
        pass
    return invoice


def held_out_lines(seed: int) -> Iterator[Invoice]:
    """An endless stream of lines that no training stream ever holds, whatever its seed."""
    source = random.Random(seed)
    while True:
        if held_out((invoice := draw(source)).line):
            yield invoice


def draw(source: random.Random, shown: Sequence[str] = FIELDS) -> Invoice:
    vendor = f"{_name(source)} {source.choice(FORMS)}"
    date = f"{source.randint(2018, 2029)}-{source.randint(1, 12):02d}-{source.randint(1, 28):02d}"
    # As many short amounts as long ones: drawn evenly, nine of ten would have four digits.
    total = f"{source.randint(1, 10 ** source.randint(1, 5) - 1)}.{source.randint(0, 99):02d}"
    number = f"{source.choice(('INV-', 'R', '', 'A-'))}{source.randint(1000, 99999)}"
    texts = {"vendor": vendor, "date": date, "total": f"{total} {source.choice(CURRENCIES)}", "number": number}
    parts = [(source.choice(LABELS[field]), texts[field]) for field in shown]
    source.shuffle(parts)
    line = source.choice(SEPARATORS).join(f"{label} {text}" for label, text in parts)
    return Invoice(line, vendor, date, total, number)


def _name(source: random.Random) -> str:
    if source.random() < 0.3:
        return source.choice(HOUSES)
    return "".join(source.choice(CONSONANTS) + source.choice(VOWELS) for _ in range(source.randint(2, 4))).capitalize()
