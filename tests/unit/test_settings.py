"""Settings come from the environment, and wrong ones are named."""

import pytest

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
