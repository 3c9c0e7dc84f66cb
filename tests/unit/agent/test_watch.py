"""List and watch against a stand-in for the API server and its faults."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from lvs_dr.agent.apiclient import ApiClient, ApiSettings
from lvs_dr.agent.watch import Seen, Unreadable, Watch, backoff
from lvs_dr.core.reasons import Reason
from lvs_dr.core.table import DirectorTableSpec
from tests.unit.agent.fake_api import GROUP, FakeApi

TABLE = {
    "directorGroup": "default",
    "serviceGeneration": 1,
    "address": "192.0.2.100",
    "ports": [{"port": 80, "protocol": "TCP"}],
    "scheduler": "rr",
    "onFailure": "Remove",
    "destinations": [],
}


class Recorder:
    """A sink that keeps what it was told and lets a test wait for it."""

    def __init__(self) -> None:
        self.items: dict[str, Seen[DirectorTableSpec] | Unreadable] = {}
        self.replacements = 0
        self.unknowns: list[str] = []
        self._news = asyncio.Event()

    def replaced(self, items: Mapping[str, Seen[DirectorTableSpec] | Unreadable]) -> None:
        self.items = dict(items)
        self.replacements += 1
        self._news.set()

    def changed(self, item: Seen[DirectorTableSpec] | Unreadable) -> None:
        self.items[item.meta.key] = item
        self._news.set()

    def deleted(self, key: str) -> None:
        self.items.pop(key, None)
        self._news.set()

    def unknown(self, message: str) -> None:
        self.unknowns.append(message)
        self._news.set()

    async def until(self, condition: Callable[[], bool], seconds: float = 5.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                self._news.clear()
                await self._news.wait()


async def no_pause(_: float) -> None:
    """Wait as little as a back-off in a test may."""
    await asyncio.sleep(0.01)


@asynccontextmanager
async def watching(client: ApiClient, *, idle: float = 5.0) -> Any:
    """Run a watch of the group's tables."""
    sink = Recorder()
    watch: Watch[DirectorTableSpec] = Watch(
        client,
        f"{GROUP}/directortables",
        DirectorTableSpec,
        sink,
        field_selector="spec.directorGroup=default",
        idle=idle,
        sleep=no_pause,
    )
    task = asyncio.create_task(watch.run())
    try:
        yield sink, watch
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def put(api: FakeApi, name: str, **changes: Any) -> None:
    """Create or change a table."""
    await api.put("directortables", name, TABLE | changes, namespace="web")


async def test_objects_that_exist_and_later_changes_arrive(api: FakeApi, client: ApiClient) -> None:
    """What exists comes as one list, and every change after it as an event."""
    await put(api, "one")
    async with watching(client) as (sink, _):
        await sink.until(lambda: set(sink.items) == {"web/one"})
        await put(api, "two")
        await sink.until(lambda: set(sink.items) == {"web/one", "web/two"})
        await api.delete("directortables", "web/one")
        await sink.until(lambda: set(sink.items) == {"web/two"})
        assert sink.replacements == 1


async def test_only_selected_objects_arrive(api: FakeApi, client: ApiClient) -> None:
    """Tables of another group are none of this director's business."""
    await put(api, "mine")
    await put(api, "other", directorGroup="elsewhere")
    async with watching(client) as (sink, _):
        await sink.until(lambda: sink.replacements == 1)
        assert set(sink.items) == {"web/mine"}


async def test_long_lists_come_in_pages_but_are_told_as_one(api: FakeApi, client: ApiClient) -> None:
    """A page of a list is not the list: nothing on a later page counts as deleted."""
    api.page = 2
    for number in range(5):
        await put(api, f"table-{number}")
    async with watching(client) as (sink, _):
        await sink.until(lambda: sink.replacements == 1)
        assert len(sink.items) == 5


async def test_a_broken_watch_goes_on_where_it_was(api: FakeApi, client: ApiClient) -> None:
    """A lost connection loses no event and needs no second list."""
    await put(api, "one")
    async with watching(client) as (sink, _):
        await sink.until(lambda: bool(sink.items))
        await api.break_watches()
        await api.delete("directortables", "web/one")
        await put(api, "two")
        await sink.until(lambda: set(sink.items) == {"web/two"})
        assert api.lists == ["directortables"]


async def test_an_expired_version_means_a_new_list(api: FakeApi, client: ApiClient) -> None:
    """What was deleted while the history was lost is found missing in the new list."""
    await put(api, "one")
    async with watching(client) as (sink, _):
        await sink.until(lambda: bool(sink.items))
        await api.delete("directortables", "web/one")
        await put(api, "two")
        await api.compact()
        await api.break_watches()
        await sink.until(lambda: sink.replacements == 2 and set(sink.items) == {"web/two"})


async def test_bookmarks_move_the_version_on(api: FakeApi, client: ApiClient) -> None:
    """A quiet kind is not listed again after a compaction that a bookmark had already passed."""
    await put(api, "one")
    async with watching(client) as (sink, watch):
        await sink.until(lambda: bool(sink.items))
        await api.bookmark("directortables")
        told = str(api.version)
        async with asyncio.timeout(5):
            while watch._version != told:  # noqa: ASYNC110 - a bookmark tells the sink nothing
                await asyncio.sleep(0.01)
        api.compacted = int(told)
        await api.break_watches()
        await put(api, "two")
        await sink.until(lambda: len(sink.items) == 2)
        assert sink.replacements == 1


async def test_a_connection_that_says_nothing_is_given_up(api: FakeApi, client: ApiClient) -> None:
    """A dead connection that never closes must not make the agent deaf."""
    await put(api, "one")
    async with watching(client, idle=0.2) as (sink, _):
        await sink.until(lambda: bool(sink.items))
        api.silent = True
        await put(api, "two")
        async with asyncio.timeout(5):
            while len(api.watches) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        api.silent = False
        await put(api, "three")
        await sink.until(lambda: len(sink.items) == 3)


async def test_a_missing_kind_is_unknown_not_empty(api: FakeApi, client: ApiClient) -> None:
    """A deleted CRD says nothing about what the node must serve."""
    await put(api, "one")
    async with watching(client) as (sink, _):
        await sink.until(lambda: bool(sink.items))
        api.missing.add("directortables")
        await api.break_watches()
        await sink.until(lambda: bool(sink.unknowns))
        await asyncio.sleep(0.05)
        assert set(sink.items) == {"web/one"}
        api.missing.clear()
        await sink.until(lambda: sink.replacements == 2)


async def test_a_missing_right_is_unknown_not_empty(api: FakeApi, client: ApiClient) -> None:
    """A broken role binding takes no service away."""
    api.forbidden.add("directortables")
    async with watching(client) as (sink, _):
        await sink.until(lambda: bool(sink.unknowns))
        assert sink.replacements == 0
        await put(api, "one")
        api.forbidden.clear()
        await sink.until(lambda: set(sink.items) == {"web/one"})


async def test_the_api_server_may_come_and_go(api: FakeApi, client: ApiClient) -> None:
    """An API server that restarts is found again, and what changed meanwhile arrives."""
    await put(api, "one")
    async with watching(client) as (sink, _):
        await sink.until(lambda: bool(sink.items))
        await api.stop()
        await sink.until(lambda: bool(sink.unknowns))
        assert set(sink.items) == {"web/one"}
        await put(api, "two")
        await api.start()
        await sink.until(lambda: len(sink.items) == 2)


async def test_an_object_that_cannot_be_read_harms_only_itself(api: FakeApi, client: ApiClient) -> None:
    """One bad object is named, the others arrive, and it is not taken for deleted."""
    await put(api, "bad", ports="none")
    await put(api, "good")
    async with watching(client) as (sink, _):
        await sink.until(lambda: len(sink.items) == 2)
        bad = sink.items["web/bad"]
        assert isinstance(bad, Unreadable)
        assert bad.reason is Reason.INVALID
        assert "ports" in bad.message
        assert isinstance(sink.items["web/good"], Seen)


async def test_an_unknown_feature_is_unsupported(api: FakeApi, client: ApiClient) -> None:
    """A table for a newer agent says so, also where it looks wrong to this one."""
    await put(api, "new", requires=["quantum"], scheduler=7)
    async with watching(client) as (sink, _):
        await sink.until(lambda: bool(sink.items))
        new = sink.items["web/new"]
        assert isinstance(new, Unreadable)
        assert new.reason is Reason.UNSUPPORTED
        assert "quantum" in new.message


async def test_unknown_fields_are_ignored(api: FakeApi, client: ApiClient) -> None:
    """A newer controller's optional fields do not stop an older agent."""
    await put(api, "new", niceToHave=True)
    async with watching(client) as (sink, _):
        await sink.until(lambda: bool(sink.items))
        assert isinstance(sink.items["web/new"], Seen)


async def test_large_objects_arrive(api: FakeApi, client: ApiClient) -> None:
    """A table with 1,024 destinations is one line of a watch."""
    async with watching(client) as (sink, _):
        await sink.until(lambda: sink.replacements == 1)
        long = "n" * 253
        entries = [
            {"realServer": f"{long[:-5]}{n:05}", "address": "192.0.2.1", "weight": 1, "node": long} for n in range(1024)
        ]
        await put(api, "large", destinations=entries)
        await sink.until(lambda: bool(sink.items))
        assert len(sink.items["web/large"].spec.destinations) == 1024


async def test_a_rotated_token_is_read_again(api: FakeApi, tmp_path: Any) -> None:
    """The kubelet replaces the token; the old one ends, and the agent must not."""
    token = tmp_path / "token"
    token.write_text("first\n")
    api.tokens = {"first"}
    await put(api, "one")
    async with ApiClient(ApiSettings(api.url, token_file=token)) as session, watching(session) as (sink, _):
        await sink.until(lambda: bool(sink.items))
        token.write_text("second\n")
        api.tokens = {"second"}
        await api.break_watches()
        await put(api, "two")
        await sink.until(lambda: len(sink.items) == 2)
        assert api.authorizations[-1] == "Bearer second"


@pytest.mark.parametrize("failures", [1, 2, 5, 50])
def test_backoff_is_bounded_and_never_zero(failures: int) -> None:
    """An API server that is down is neither hammered nor forgotten."""
    waits = [backoff(failures) for _ in range(100)]
    assert min(waits) >= 0.1
    assert max(waits) <= 5.0
