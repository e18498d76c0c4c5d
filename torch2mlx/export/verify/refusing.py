"""Inputs that a translation refuses: its `__call__` checks lengths and plain values at its head."""

from __future__ import annotations

import dis
from typing import Any


def refusal(module: Any, error: BaseException) -> ValueError | None:
    """The error by which a module itself says that inputs are none of those that it was made for;
    None where something failed on the way through it.

    It is a refusal where a `raise` statement of the module's own `__call__` raised it, and no
    function that is called from there. An error that was told as another is its cause.
    """
    cause = error.__cause__ or error
    last = cause.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if not isinstance(cause, ValueError) or last is None:
        return None
    code = last.tb_frame.f_code
    own = code.co_name == "__call__" and last.tb_frame.f_locals.get("self") is module
    raised = code.co_code[last.tb_lasti] == dis.opmap["RAISE_VARARGS"]
    return cause if own and raised else None
