"""Settings of the commands: one frozen model each, read from TASKFLEET_* environment variables, which the chart and the pod template set."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

PREFIX = "TASKFLEET_"


class SettingsError(Exception):
    """A setting is missing or invalid; the message names the variable."""


class Settings(BaseModel):
    """What all commands share. Subclasses add their own fields; field `log_level` is read from TASKFLEET_LOG_LEVEL."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], Field(description="Lowest level that is logged.")] = "INFO"
    log_style: Annotated[Literal["text", "json"], Field(description="key=value lines, or one JSON object a line.")] = "text"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """The settings of an environment; unknown TASKFLEET_* variables are ignored.

        Raises SettingsError with one line per wrong variable.
        """
        given = {name: environment[PREFIX + name.upper()] for name in cls.model_fields if PREFIX + name.upper() in environment}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            lines = [f"{PREFIX}{'_'.join(str(part) for part in item['loc']).upper()}: {item['msg']}" for item in error.errors()]
            raise SettingsError("\n".join(lines)) from None
