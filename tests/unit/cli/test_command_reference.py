"""The reference of the commands is what `make generate` writes."""

from taskfleet.cli.command_reference import PAGE, page


def test_reference_is_what_make_generate_writes() -> None:
    assert page() == PAGE.read_text(), "run `make generate`"


def test_reference_names_every_verb_with_its_help() -> None:
    for verb in ("status", "history", "pause", "resume", "promote", "abort", "retry", "undo"):
        section = page().partition(f"\n### taskfleet rollout {verb}\n\n")[2].partition("\n###")[0]
        assert f"`taskfleet rollout {verb} NAME [OPTIONS]`" in section
        assert section.count("| `--namespace`, `-n` |") == 1
