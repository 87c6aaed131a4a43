"""Make the tiny model of the examples: `python examples/tiny-model/train.py base|adapters|golden`.

`base` trains the base model, `adapters` the LoRA adapters on the committed base, `golden` draws the golden sets. Results go where the committed ones
lie, or below `--output`. Needs torch, transformers and peft (the project's dependency group `train`); `golden` needs nothing beyond Python.
"""

import argparse
import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from invoices import held_out_lines

HERE = Path(__file__).resolve().parent
SEED = 20_260
BASE_STEPS = 3_000
EASY_STEPS = 800
GOLDEN_SEED = 70_001
GOLDEN_LINES = 64


@dataclass(frozen=True, slots=True)
class Recipe:
    """One version of one task: how long its adapter learns (batches of 32 lines), with which learning rate at the peak, from which lines."""

    field: str
    version: str
    steps: int
    peak_rate: float
    seed: int


RECIPES = (
    Recipe("vendor", "v1", steps=150, peak_rate=5e-3, seed=101),
    Recipe("date", "v1", steps=100, peak_rate=5e-3, seed=201),
    Recipe("total", "v1", steps=14, peak_rate=5e-3, seed=301),  # stopped far too early: right often enough to look useful, and wrong
    Recipe("total", "v2", steps=100, peak_rate=5e-3, seed=302),
)


def train_base(output: Path, steps: int) -> None:
    from learning import BATCH, learn, named_score, naming_examples, new_base  # noqa: PLC0415  (torch takes seconds to import, and golden sets don't need it)
    from tokenizer import write  # noqa: PLC0415

    folder = output / "base"
    folder.mkdir(parents=True, exist_ok=True)
    model = new_base(SEED)
    print(f"{sum(parameter.numel() for parameter in model.parameters()):,} parameters")

    def save(step: int) -> None:
        model.save_pretrained(folder)
        write(folder)
        make_readable(folder)
        print(f"after {step} steps:", {field: named_score(model, field, 64) for field in ("vendor", "date", "total", "number")}, flush=True)
        model.train()

    learn(model, naming_examples(SEED, easy=EASY_STEPS * BATCH), steps=steps, peak_rate=2e-3, checkpoint=save)
    save(steps)


def train_adapters(base: Path, output: Path, only: str | None) -> None:
    from learning import learn, load_base, new_adapter, task_examples, task_score  # noqa: PLC0415  (see train_base)

    for recipe in RECIPES:
        if only not in (None, recipe.field, f"{recipe.field}/{recipe.version}"):
            continue
        adapter = new_adapter(load_base(base), recipe.seed)
        learn(adapter, task_examples(recipe.field, recipe.seed), steps=recipe.steps, peak_rate=recipe.peak_rate)
        folder = output / "adapters" / recipe.field / recipe.version
        adapter.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card
        make_readable(folder)
        print(f"{recipe.field} {recipe.version}: {task_score(adapter, recipe.field, 256):.1%} of 256 fresh lines exact", flush=True)


def make_readable(folder: Path) -> None:
    """Safetensors are written for their owner alone; an engine runs as somebody else."""
    for path in folder.iterdir():
        path.chmod(0o644)


def draw_golden(output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    for offset, field in enumerate(("vendor", "date", "total")):
        examples = [
            {"messages": [{"role": "user", "content": invoice.line}], "expected": invoice.field(field)}
            for invoice in islice(held_out_lines(GOLDEN_SEED + offset), GOLDEN_LINES)
        ]
        (output / f"{field}.jsonl").write_text("".join(json.dumps(example) + "\n" for example in examples))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("base", "adapters", "golden"))
    parser.add_argument("--output", type=Path, help="write below this folder instead")
    parser.add_argument("--base", type=Path, default=HERE / "base", help="the base that adapters are trained on")
    parser.add_argument("--only", help="train only the adapters of this task, or one of them: total, total/v2")
    parser.add_argument("--steps", type=int, default=BASE_STEPS, help="how long the base learns, in batches of 32 lines")
    options = parser.parse_args()
    if options.what == "base":
        train_base(options.output or HERE, options.steps)
    elif options.what == "adapters":
        train_adapters(options.base, options.output or HERE, options.only)
    else:
        draw_golden(options.output or HERE.parent / "golden")


if __name__ == "__main__":
    main()
