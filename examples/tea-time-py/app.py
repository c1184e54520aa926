"""A discount on everything for those who know the code."""

import json

from wit_world.exports.discount import (
    Answer,
    Answer_Propose,
    Answer_Reject,
    Cart,
    Effect_Percent,
    Portion,
    Proposal,
    Rejection,
    Stacking,
)
from wit_world.imports import config

CODE = "TEATIMEPY"

# The host writes this field wherever it stands, so that a plugin cannot speak
# for another.
PROVIDER = ""


class Discount:
    """Named after the interface: this is how componentize-py finds it."""

    def propose(self, cart: Cart) -> list[Answer]:
        if CODE not in cart.codes:
            return []
        if not cart.lines:
            reason = "Put something in the cart first."
            return [Answer_Reject(Rejection(PROVIDER, CODE, reason))]
        # Settings come as JSON, checked by the host and with defaults filled in.
        percent = json.loads(config.get("percent"))
        # In millionths, so that no fraction is ever lost to a float.
        effect = Effect_Percent((percent * 10_000, [Portion(line.id, line.quantity) for line in cart.lines]))
        return [
            Answer_Propose(
                Proposal(
                    provider=PROVIDER,
                    id=CODE,
                    title=f"Tea time: {percent} % off",
                    code=CODE,
                    effect=effect,
                    stacking=Stacking.COMBINES,
                    limit=None,
                )
            )
        ]
