"""Settings come from the environment, and wrong ones are named."""

import pytest

from taskfleet.cli.settings_reference import PAGE, page
from taskfleet.settings import Settings, SettingsError


class Example(Settings):
    port: int = 8080
    name: str


def test_variables_are_read_and_others_ignored() -> None:
    settings = Example.from_environment({"TASKFLEET_NAME": "x", "TASKFLEET_LOG_LEVEL": "DEBUG", "TASKFLEET_UNKNOWN": "1", "HOME": "/"})
    assert settings == Example(name="x", log_level="DEBUG")


def test_every_wrong_variable_is_named() -> None:
    with pytest.raises(SettingsError, match=r"(?s)TASKFLEET_PORT.*") as caught:
        Example.from_environment({"TASKFLEET_PORT": "many"})
    assert "TASKFLEET_NAME: Field required" in str(caught.value)


def test_reference_is_what_make_generate_writes() -> None:
    assert PAGE.read_text() == page(), "run `make generate`"


def test_reference_tells_default_and_meaning() -> None:
    assert "| `TASKFLEET_WORKERS` | `16` | Keys that are reconciled at a time. |" in page()
    assert "| `TASKFLEET_AGENT_IMAGE` | required |" in page()
