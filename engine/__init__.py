"""The state machine: ordered bytes in, journal and state root out."""
