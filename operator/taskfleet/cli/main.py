"""The entry point of `taskfleet`."""

import sys

from taskfleet.cli.parts import PARTS


def main() -> None:
    """Settings that are wrong are told without a traceback."""
    try:
        part = PARTS.get(tuple(sys.argv[1:]))
        if part is None:
            from taskfleet.cli.commands import app  # noqa: PLC0415

            app()
        else:
            part()
    except Exception as error:
        from taskfleet.settings import SettingsError  # noqa: PLC0415

        if not isinstance(error, SettingsError):
            raise
        print(f"taskfleet: wrong settings\n{error}", file=sys.stderr)
        sys.exit(2)
