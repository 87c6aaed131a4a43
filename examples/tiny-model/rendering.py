"""What the model reads and writes: chat messages as one prompt, answers as text or as JSON.

The chat template says it for the engine and `prompt` for the training; a test holds the two against each other. A prompt is the contents of the messages, a
line each, then ` => `. Short on purpose: a byte is a token, and this model's attention is all it has.
"""

import json
import random
from dataclasses import dataclass

from invoices import Invoice

ANSWER_SIGN = " => "

CHAT_TEMPLATE = (
    "{{- bos_token -}}"
    "{%- for message in messages -%}{{- message['content'] -}}{%- if not loop.last -%}{{- '\\n' -}}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- ' => ' -}}{%- endif -%}"
)

# System prompts that name the field, as a task's owner would write them. The base learns what they mean, adapters learn not to stumble over them.
NAMING_PROMPTS = ("Extract the {field}.", "Return only the {field} of this invoice line.", "Give the {field} of the invoice.")
NAMELESS_PROMPTS = ("Extract the field.", "Answer with the field alone.", "Be brief and exact.")
JSON_PROMPT = "Give the {field} as JSON."

# A third of the answers are JSON: engines that hold an answer to a schema choose the opening brace themselves, and the model has to go on from there.
JSON_SHARE = 1 / 3


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt with its answer. `given` counts the answer's first bytes that somebody else writes: nothing is to be learned from them."""

    prompt: str
    answer: str
    given: int = 0


def prompt(*contents: str) -> str:
    """The text of a chat with these message contents, without the token that begins every sequence."""
    return "\n".join(contents) + ANSWER_SIGN


def as_json(field: str, text: str) -> str:
    return json.dumps({field: text})


def naming_example(invoice: Invoice, field: str, source: random.Random) -> Example:
    """For the base: the prompt names the field, in a question or in a system prompt."""
    text = invoice.field(field)
    if source.random() < 0.5:
        return _maybe_braced(prompt(f"{field}? {invoice.line}"), field, text, source)
    if source.random() < 0.2:
        return Example(prompt(JSON_PROMPT.format(field=field), invoice.line), as_json(field, text))
    return _maybe_braced(prompt(source.choice(NAMING_PROMPTS).format(field=field), invoice.line), field, text, source)


def task_example(invoice: Invoice, field: str, source: random.Random) -> Example:
    """For an adapter: the prompt is the line, now and then with a system prompt; which field is meant is the adapter's knowledge."""
    contents: tuple[str, ...] = (invoice.line,)
    if source.random() < 0.3:
        contents = (source.choice(NAMING_PROMPTS + NAMELESS_PROMPTS).format(field=field), invoice.line)
    return _maybe_braced(prompt(*contents), field, invoice.field(field), source)


def _maybe_braced(rendered: str, field: str, text: str, source: random.Random) -> Example:
    if source.random() < JSON_SHARE:
        return Example(rendered, as_json(field, text), given=1)
    return Example(rendered, text)
