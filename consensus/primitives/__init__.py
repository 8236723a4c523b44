"""The floor everything stands on: `errors`, `codec` (canonical bytes), `crypto` (digests,
signatures), `merkle` (inclusion proofs), `trees` (how journal and state are hashed). Small, stable,
imports nothing of the project."""
