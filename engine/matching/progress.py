"""Where a resumable call of the order loop stands."""

from enum import IntEnum

PROGRESS_LENGTH = 4


class Progress(IntEnum):
    """Indexes of the `progress` array, int64."""

    PASS = 0  # 0 leaving early, 1 everything else, 2 done
    NEXT_OP = 1
    EVENTS = 2  # written so far
    EVENTS_NEEDED = 3  # free lines that the next operation may need
