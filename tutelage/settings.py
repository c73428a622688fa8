"""Settings that users write, in Python or as TOML: whether they are of the types that they are to have."""

from inspect import formatannotation
from typing import Any, Literal, get_args, get_origin, get_type_hints

from typeguard import CollectionCheckStrategy, TypeCheckError
from typeguard import check_type as check


def check_type(name: str, value: Any, kind: Any) -> None:
    """Nothing, if the setting called `name` is of that type, all that it contains included.

    Raises:
        ValueError: it is not.
    """
    try:
        check(value, kind, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
    except TypeCheckError as error:
        choice = get_origin(kind) is Literal
        wanted = f"one of {', '.join(get_args(kind))}" if choice else f"of type {formatannotation(kind)}"
        raise ValueError(f"{name} is {wanted}, not {value!r}.") from error


def check_fields(settings: Any) -> None:
    """Nothing, if all fields of the dataclass are of their types.

    Raises:
        ValueError: one is not.
    """
    for name, kind in get_type_hints(type(settings)).items():
        check_type(name, getattr(settings, name), kind)
