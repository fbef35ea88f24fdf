"""A blocked event loop ends the process; one that is merely busy does not."""

import asyncio
import threading

from kdmri_service.watchdog import EXIT_STATUS, watching


def test_a_blocked_loop_is_seen() -> None:
    ended = threading.Event()
    statuses: list[int] = []

    def end(status: int) -> None:
        statuses.append(status)
        ended.set()

    async def blocked() -> None:
        with watching(asyncio.get_running_loop(), beat_seconds=0.001, missed_beats=3, end=end):
            # The event loop runs nothing else until the watchdog has seen that.
            assert ended.wait(60)

    asyncio.run(blocked())
    assert statuses == [EXIT_STATUS]


def test_a_loop_that_runs_is_left_alone() -> None:
    statuses: list[int] = []

    async def well() -> None:
        # With so many beats to miss, only a loop that never runs its callbacks is taken for blocked.
        with watching(asyncio.get_running_loop(), beat_seconds=0.001, missed_beats=10**6, end=statuses.append):
            for _ in range(100):
                await asyncio.sleep(0)

    asyncio.run(well())
    assert statuses == []
