"""Log lines are structured, and text from a tenant can't forge one."""

import json
import logging

import pytest

from taskfleet import logs
from tests.unit.logging_setup import logging_as_before  # noqa: F401  a fixture

pytestmark = pytest.mark.usefixtures("logging_as_before")


def test_fields_stand_behind_the_message(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    logging.getLogger("x").info("pool applied", extra=logs.fields(pool="finance/tiny", replicas=2, note="two words"))
    assert capsys.readouterr().err.rstrip().endswith('info pool applied pool=finance/tiny replicas=2 note="two words"')


@pytest.mark.parametrize("style", ["text", "json"])
@pytest.mark.parametrize("evil", ["a\n2026-01-01 error forged", "a\r\x1b[2Jb", 'a" forged="1', "a\u2028b"])
def test_a_value_stays_on_its_line(capsys: pytest.CaptureFixture[str], style: str, evil: str) -> None:
    logs.configure(style="json" if style == "json" else "text")
    logging.getLogger("x").warning("refused", extra=logs.fields(reason=evil))
    line = capsys.readouterr().err
    assert len(line.splitlines()) == 1
    assert line.rstrip("\n").isprintable()


def test_json_lines_can_be_read_back(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(style="json")
    logging.getLogger("x").info("done", extra=logs.fields(count=3))
    entry = json.loads(capsys.readouterr().err)
    assert (entry["message"], entry["count"], entry["level"]) == ("done", 3, "info")


def test_no_field_takes_the_place_of_what_the_line_itself_says(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(style="json")
    logging.getLogger("x").info("transition", extra=logs.fields(message="the reason", time="never", pool="finance/tiny"))
    entry = json.loads(capsys.readouterr().err)
    assert (entry["message"], entry["field_message"], entry["field_time"], entry["pool"]) == (
        "transition",
        "the reason",
        "never",
        "finance/tiny",
    )


def test_what_an_exception_quotes_never_looks_like_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    try:
        _refuse("bad\n2026-01-01T00:00:00Z error forged")
    except ValueError:
        logging.getLogger("x").exception("failed")
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.endswith("error failed")
    assert "forged" in "".join(rest)
    assert all(line.startswith("    ") for line in rest)


def _refuse(text: str) -> None:
    raise ValueError(text)
