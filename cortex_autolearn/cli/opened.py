"""Opens the system below ROOT for one command, and closes it."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING, cast

from cortex_autolearn import wiring
from cortex_autolearn.cli.quiet import Quiet

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from cortex_autolearn.adapters.observe import Logging
    from cortex_autolearn.cli.call import Call
    from cortex_autolearn.wiring import App


def opened(call: Call, *, looks_only: bool = False) -> AbstractContextManager[App]:
    """Return the system that a call is about, as a context that closes it.

    With ``looks_only`` nothing can be written, no right to write is needed, and no state need be there.
    """
    logging = cast("Logging", Quiet())
    return closing(
        wiring.build(
            call.root,
            config=call.config,
            environ=os.environ,
            flags=dict(call.flags),
            logging=logging,
            looks_only=looks_only,
        )
    )
