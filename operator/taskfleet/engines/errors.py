"""What can go wrong between us and an engine, sorted by what the caller should do next.

EngineError
├── RetryableEngineError          nothing has changed in the engine; the same request may succeed later
│   ├── EngineUnreachableError    no connection: not started yet, or gone
│   ├── EngineBusyError           it refuses work for now (429, 503)
│   ├── AdapterFilesMissingError  no adapter at the path: not staged yet
│   └── ModelNotServedError       it doesn't know the model that was to be proven
├── PermanentEngineError          the same request will never succeed
│   ├── AdapterInvalidError       wrong shapes, corrupt file, rank above the limit; the engine survives it
│   ├── NameTakenError            the name stands for other files, or for the base
│   ├── WrongModelError           another model answered than was asked
│   └── RequestRefusedError       we asked wrongly, or the engine was started without what we need
├── OutcomeUnknownError           the reply was lost: it may have happened or not; look at the engine before anything else
└── EngineDeadError               the process answers, its core doesn't: only a restart helps

`reason` of each class is CamelCase and stable: it ends up in conditions.
"""


class EngineError(Exception):
    """Anything that went wrong with an engine. `str()` says what happened to which model."""

    reason = "EngineError"


class RetryableEngineError(EngineError):
    """Nothing has changed in the engine; the same request may succeed later."""

    reason = "EngineNotReady"


class EngineUnreachableError(RetryableEngineError):
    """No connection could be made, so the request was never sent."""

    reason = "EngineUnreachable"


class EngineBusyError(RetryableEngineError):
    """The engine refuses work for now."""

    reason = "EngineBusy"


class AdapterFilesMissingError(RetryableEngineError):
    """The engine found no adapter at the path."""

    reason = "AdapterFilesMissing"


class ModelNotServedError(RetryableEngineError):
    """The engine doesn't know the model."""

    reason = "ModelNotServed"


class PermanentEngineError(EngineError):
    """The same request will never succeed."""

    reason = "EngineRefused"


class AdapterInvalidError(PermanentEngineError):
    """The engine can't use these files, now or later."""

    reason = "AdapterInvalid"


class NameTakenError(PermanentEngineError):
    """The name already stands for other files, or for the base model."""

    reason = "NameTaken"


class WrongModelError(PermanentEngineError):
    """Another model answered than was asked: the base, most likely. Nothing of this may reach a client."""

    reason = "WrongModel"


class RequestRefusedError(PermanentEngineError):
    """The request was wrong in itself, or the engine was started without what it needs for it."""

    reason = "RequestRefused"


class OutcomeUnknownError(EngineError):
    """The reply was lost or late. What was asked may have happened, or happen yet."""

    reason = "OutcomeUnknown"


class EngineDeadError(EngineError):
    """The server still answers, the engine behind it is gone. It ends by itself soon, or has to be restarted."""

    reason = "EngineDead"
