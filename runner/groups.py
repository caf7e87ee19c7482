"""What went wrong in a group of tasks, as one error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def first_of(kind: type[Exception]) -> Iterator[None]:
    """Raises the first error of this kind out of a group by itself."""
    found: list[Exception] = []
    try:
        yield
    except* kind as errors:
        found += flattened(errors)
    if found:
        raise found[0]


def flattened(errors: BaseExceptionGroup[Exception]) -> Iterator[Exception]:
    """The errors themselves, however deep the groups are nested."""
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from flattened(error)
        else:
            yield error
