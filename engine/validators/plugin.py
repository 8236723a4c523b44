"""The validators plugin: its commands in one table, and its turn at the end of a block."""

from collections.abc import Sequence

from engine.commands import (
    AddValidator,
    MoveValidator,
    RemoveValidator,
    ReplaceValidator,
    RotateValidatorKey,
    SetExclusionRule,
    Wedge,
)
from engine.genesis import Genesis
from engine.plugin import Context, Handler, Plugin
from engine.state import State
from engine.validators.audit import check_validators
from engine.validators.boundary import reach
from engine.validators.changes import Changes
from engine.validators.convictions import exclude


class ValidatorsPlugin(Plugin):
    """Membership, keys and endpoints of validators; wedges; convictions."""

    name = "validators"

    def __init__(self, genesis: Genesis) -> None:
        rules = self._rules = Changes(genesis)
        self.handlers: Sequence[Handler] = (
            Handler(AddValidator, rules.validate_add, rules.apply_add),
            Handler(RemoveValidator, rules.validate_remove, rules.apply_remove),
            Handler(ReplaceValidator, rules.validate_replace, rules.apply_replace),
            Handler(RotateValidatorKey, rules.validate_rotate, rules.apply_rotate),
            Handler(MoveValidator, rules.validate_move, rules.apply_move),
            Handler(Wedge, rules.validate_wedge, rules.apply_wedge),
            Handler(SetExclusionRule, rules.validate_rule, rules.apply_rule),
        )

    def on_block_end(self, state: State, context: Context) -> None:
        """Schedule exclusions, then carry out what was due at this block."""
        height = context.height
        # In this order a boundary's checkpoint never announces the next boundary as well.
        exclude(state, self._rules.first_boundary(height))
        reach(state, height)

    def check_invariants(self, state: State) -> None:
        """Members, keys, the pending change and convictions agree."""
        check_validators(state, self._rules.genesis)
