"""What every table of the settings has in common."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from mta_front.settings.lines import KeyPath


class Section(BaseModel):
    """One table of the file. Unknown keys are errors, values are never converted behind the operator's back."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


RuleFault = tuple[Sequence[KeyPath], str]
"""A rule across keys that is broken: the paths that were looked at, the first of which is to blame, and the message."""
