"""The floor everything stands on: `errors`, `codec` (canonical bytes), `crypto` (digests,
signatures), `merkle` (inclusion proofs). Small, stable, imports nothing of the project."""
