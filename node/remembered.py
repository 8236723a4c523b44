"""Names that were seen lately: a bounded memory that several threads may share."""


class Remembered:
    """The newest names of 32 bytes, `count_max` at most and the newest half of that at least.

    Two generations: once the younger one is full, the older is dropped whole. So a name costs
    `NAME_BYTES` and no link to its neighbours, and nothing is moved when it is asked for.
    """

    NAME_BYTES = 160  # a bytes object of 32, and its place in a set that is as empty as sets get

    def __init__(self, count_max: int) -> None:
        self._half = max(1, count_max // 2)
        self._young: set[bytes] = set()  # looked up, never iterated
        self._old: set[bytes] = set()

    def add(self, name: bytes) -> None:
        """Remember `name`."""
        if name in self:
            return
        if len(self._young) >= self._half:
            self._young, self._old = set(), self._young
        self._young.add(name)

    def __contains__(self, name: bytes) -> bool:
        return name in self._young or name in self._old

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    @property
    def size_bytes(self) -> int:
        """What these names take, at most."""
        return len(self) * self.NAME_BYTES
