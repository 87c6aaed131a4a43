"""What is remembered of objects, and for how long."""

import gc

from pydantic import BaseModel, ConfigDict

from taskfleet.planning.memo import once_per_object


class Thing(BaseModel):
    model_config = ConfigDict(frozen=True)
    number: int
    other: "Thing | None" = None


def counted() -> tuple[list[int], object]:
    asked: list[int] = []

    def double(thing: Thing) -> int:
        asked.append(thing.number)
        return 2 * thing.number

    return asked, once_per_object(double)


def test_each_object_is_looked_at_once_and_an_equal_one_is_another() -> None:
    asked, double = counted()
    one, equal = Thing(number=4), Thing(number=4)
    assert [double(one), double(one), double(equal), double(one)] == [8, 8, 8, 8]  # type: ignore[operator]
    assert asked == [4, 4]


def test_nothing_stays_of_an_object_that_is_gone() -> None:
    """A new object may have the identity of an old one."""
    asked, double = counted()
    for number in range(2000):
        assert double(Thing(number=number)) == 2 * number  # type: ignore[operator]
    assert asked == list(range(2000))


def test_objects_that_are_collected_later_are_forgotten_too() -> None:
    _, double = counted()
    gc.disable()
    try:
        for number in range(200):
            thing = Thing(number=number)
            object.__setattr__(thing, "other", thing)
            assert double(thing) == 2 * number  # type: ignore[operator]
            del thing
    finally:
        gc.enable()
    gc.collect()
    for number in range(1000, 1400):
        assert double(Thing(number=number)) == 2 * number  # type: ignore[operator]
