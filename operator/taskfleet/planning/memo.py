"""Remembering what was made of an object that never changes.

One change makes the operator look at every TaskModel of a packing key, again and again, and nearly all of them are the very objects of the time before.
"""

import weakref
from collections.abc import Callable
from functools import wraps
from typing import TypeVar

from pydantic import BaseModel

M = TypeVar("M", bound=BaseModel)
R = TypeVar("R")


def once_per_object(function: Callable[[M], R]) -> Callable[[M], R]:
    """For a pure function of a frozen model: calculated once for each object, by identity, and forgotten with it."""
    known: dict[int, tuple[weakref.ref[M], R]] = {}

    @wraps(function)
    def remembered(of: M) -> R:
        found = known.get(id(of))
        # The object may have gone in a reference cycle, and another be at its place already, before its own entry went.
        if found is not None and found[0]() is of:
            return found[1]
        identity, result = id(of), function(of)

        def forget(gone: weakref.ref[M]) -> None:
            if identity in known and known[identity][0] is gone:
                del known[identity]

        known[identity] = (weakref.ref(of, forget), result)
        return result

    return remembered
