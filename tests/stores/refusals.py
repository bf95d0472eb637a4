"""How tests look at refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stores.errors import MivosError, one_line


def refusal(call: Callable[[], Any], *words: str) -> MivosError:
    """The error that `call` raises: one plain line with these words."""
    with pytest.raises(MivosError) as caught:
        call()
    message = str(caught.value)
    assert message == one_line(message) and len(message) <= 5000
    for word in words:
        assert word in message, message
    return caught.value
