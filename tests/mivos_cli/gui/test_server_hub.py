"""The hub: slow tabs, thinned-out progress, and whose warnings are whose."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from typing import Any

from mivos_cli.gui.desks import on_behalf_of
from mivos_cli.gui.hub import INTERVAL, KEPT_MESSAGES, Hub, LogToTabs


def test_a_slow_tab_misses_nothing_that_still_holds() -> None:
    async def scenario() -> list[dict[str, Any]]:
        hub = Hub(asyncio.get_running_loop())
        tab = hub.join({"type": "state", "n": 0})

        def work() -> None:
            for n in range(1000):
                hub.state({"n": n})
                hub.masks([n % 7])
                hub.progress("job", "propagate", n, 1000, n)
                hub.message("warning", f"careful {n}")
            hub.job({"id": "job", "state": "done"})

        thread = threading.Thread(target=work)
        thread.start()
        await asyncio.to_thread(thread.join)
        await asyncio.sleep(0.05)
        messages = await tab.take()
        assert messages is not None
        return [json.loads(message) for message in messages]

    got = asyncio.run(scenario())
    by_type = {kind: [m for m in got if m["type"] == kind] for kind in ("state", "masks", "progress", "job", "message")}
    assert [m["n"] for m in by_type["state"]] == [999]
    assert [m["frames"] for m in by_type["masks"]] == [list(range(7))]
    assert [m["done"] for m in by_type["progress"]] == [999]
    assert [m["job"]["state"] for m in by_type["job"]] == ["done"]
    texts = [m["text"] for m in by_type["message"]]
    assert texts == [f"careful {n}" for n in range(1000 - KEPT_MESSAGES, 1000)]


def test_all_masks_include_each() -> None:
    async def scenario() -> list[Any]:
        hub = Hub(asyncio.get_running_loop())
        tab, told = hub.join({}), []
        for changes in ([[1], None], [None, [1]], [[], [2]]):
            for frames in changes:
                hub.masks(frames)
            await asyncio.sleep(0)
            told.append(await tab.take())
        return [[json.loads(m).get("frames") for m in batch if "masks" in m] for batch in told]

    assert asyncio.run(scenario()) == [[None], [None], [[2]]]


def test_progress_is_thinned_out_and_the_rest_is_not() -> None:
    async def scenario() -> tuple[list[float], float]:
        clock = asyncio.get_running_loop().time
        hub = Hub(asyncio.get_running_loop())
        tab, times = hub.join({}), []
        await tab.take()
        end = clock() + 10 * INTERVAL

        async def push() -> None:
            done = 0
            while clock() < end:
                hub.progress("job", "decode", done, None)
                done += 1
                await asyncio.sleep(0.002)
            hub.progress("job", "decode", -1, None)

        task = asyncio.create_task(push())
        while True:
            batch = await tab.take()
            assert batch is not None
            times.append(clock())
            if json.loads(batch[-1])["done"] == -1:
                break
        await task
        hub.progress("job", "decode", 1, None)
        hub.state({})
        began = clock()
        await tab.take()
        return times, clock() - began

    times, urgent = asyncio.run(scenario())
    gaps = [b - a for a, b in zip(times, times[1:], strict=False)]
    assert len(times) <= 13 and min(gaps) > 0.8 * INTERVAL
    assert urgent < INTERVAL / 2


def test_the_end_of_a_tab() -> None:
    async def scenario() -> tuple[Any, Any]:
        hub = Hub(asyncio.get_running_loop())
        tab = hub.join({})
        await tab.take()
        waiting = asyncio.create_task(tab.take())
        await asyncio.sleep(0)
        hub.message("info", "good bye")
        hub.close()
        return await waiting, await tab.take()

    last, end = asyncio.run(scenario())
    assert "good bye" in last[0] and end is None


def test_pushing_after_the_end_is_harmless() -> None:
    async def make() -> Hub:
        return Hub(asyncio.get_running_loop())

    asyncio.run(make()).state({})


def test_warnings_go_to_the_project_they_are_about() -> None:
    class Owner:
        def __init__(self, hub: Hub) -> None:
            self.hub = hub

    async def scenario() -> list[list[str]]:
        hubs = [Hub(asyncio.get_running_loop()) for _ in range(2)]
        tabs = [hub.join({}) for hub in hubs]
        log = logging.getLogger("mivos.test")
        handler = LogToTabs(lambda: hubs)
        log.addHandler(handler)
        try:
            with on_behalf_of(Owner(hubs[0])):
                log.warning("of the\nfirst")
            log.error("of all")
            log.info("of none")
        finally:
            log.removeHandler(handler)
        await asyncio.sleep(0.01)
        batches = [await tab.take() for tab in tabs]
        return [[json.loads(m)["text"] for m in batch or () if "text" in m] for batch in batches]

    assert asyncio.run(scenario()) == [["of the first", "of all"], ["of all"]]
