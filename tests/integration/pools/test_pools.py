"""Pools: made, listed, changed, deleted. Invariants 7 (audited) and 8 (request_id, bad input)."""

from __future__ import annotations

import json
from typing import Any

import protovalidate
import pytest
import sqlalchemy as sa
from google.protobuf.field_mask_pb2 import FieldMask

from control_plane import errors
from control_plane.identity import principal
from control_plane.paging import BadPageToken
from control_plane.storage.tables import runs, stacks
from interlock.v1 import pool_service_pb2 as rpc
from interlock.v1.pool_pb2 import ContainerOptions, Pool
from tests.integration.pools.house import CONTEXT, READER, House, hello


async def get(house: House, pool_id: str) -> Pool:
    return await house.servicer.GetPool(rpc.GetPoolRequest(pool_id=pool_id), CONTEXT)


async def update(house: House, *paths: str, **fields: Any) -> Pool:
    request = rpc.UpdatePoolRequest(pool=Pool(**fields), update_mask=FieldMask(paths=paths))
    return await house.servicer.UpdatePool(request, CONTEXT)


async def delete(house: House, pool_id: str) -> None:
    await house.servicer.DeletePool(rpc.DeletePoolRequest(pool_id=pool_id), CONTEXT)


async def ids(house: House, **fields: Any) -> list[str]:
    response = await house.servicer.ListPools(rpc.ListPoolsRequest(**fields), CONTEXT)
    return [pool.id for pool in response.pools]


async def test_the_public_pool_is_there_from_the_start(house: House) -> None:
    pool = await get(house, "public")

    assert (pool.name, pool.public, pool.connected_runners, pool.free_capacity) == ("Public", True, 0, 0)


async def test_a_new_pool_is_kept_as_it_was_asked_for(house: House) -> None:
    options = ContainerOptions(memory_bytes=2**30, mounts=["/srv/cache:/cache:ro"], runtime="runsc")
    made = await house.create("Blue Team", labels=["a", "b"], container=options)

    assert made == await get(house, "blue-team")
    assert (made.public, list(made.labels), made.container) == (False, ["a", "b"], options)


async def test_making_a_pool_is_audited(house: House) -> None:
    """Invariant 7: every change is in the audit log, in the same transaction as the change."""
    await house.create("Blue", id="b", container=ContainerOptions(mounts=["/srv:/srv"]))

    (event,) = await house.audited("pool.created")
    assert (event.caller_login, event.resource_type, event.resource_id) == ("ada", "pool", "b")
    assert json.loads(event.details)["container"] == {"mounts": ["/srv:/srv"]}


async def test_an_id_that_is_taken_is_refused(house: House) -> None:
    with pytest.raises(errors.AlreadyExists):
        await house.create("Another", id="public")
    assert await house.audited("pool.created") == []


async def test_a_name_without_letters_needs_an_id(house: House) -> None:
    with pytest.raises(errors.InvalidField, match=r"pool\.id"):
        await house.create("数据")


async def test_a_pool_has_a_name(house: House) -> None:
    with pytest.raises(errors.InvalidField, match=r"pool\.name"):
        await house.create("", id="blue")
    with pytest.raises(errors.InvalidField, match=r"pool\.name"):
        await update(house, "name", id="public", name="")
    assert (await get(house, "public")).name == "Public"


async def test_a_change_of_labels_alone_needs_no_name(house: House) -> None:
    request = rpc.UpdatePoolRequest(
        pool=Pool(id="public", labels=["x"]), update_mask=FieldMask(paths=["labels"])
    )

    assert protovalidate.collect_violations(request) == []
    changed = await house.servicer.UpdatePool(request, CONTEXT)
    assert (changed.name, list(changed.labels)) == ("Public", ["x"])


async def test_a_pool_that_mounts_the_engines_socket_is_neither_made_nor_changed_to(house: House) -> None:
    options = ContainerOptions(mounts=["/var/run/docker.sock:/var/run/docker.sock"])

    with pytest.raises(errors.InvalidField, match=r"pool\.container\.mounts\[0\]"):
        await house.create("Blue", container=options)
    with pytest.raises(errors.InvalidField, match=r"pool\.container\.mounts\[0\]"):
        await update(house, "container", id="public", container=options)

    assert await ids(house) == ["public"]
    assert (await get(house, "public")).container == ContainerOptions()


async def test_a_repeated_request_gives_the_same_pool(house: House) -> None:
    """Invariant 8: the same request_id twice gives the same resource, not two."""
    first = await house.create("Blue", "once")
    second = await house.create("Blue", "once")

    assert first == second
    assert len(await house.audited("pool.created")) == 1


async def test_a_request_id_with_other_content_is_refused(house: House) -> None:
    await house.create("Blue", "once")

    with pytest.raises(errors.RequestIdReused):
        await house.create("Green", "once")
    assert await ids(house) == ["blue", "public"]


async def test_only_what_the_mask_names_is_changed_and_audited(house: House) -> None:
    """Invariant 7: every change is in the audit log."""
    await house.create("Blue", labels=["a"], container=ContainerOptions(pids=5))

    changed = await update(house, "name", "labels", id="blue", name="Navy", labels=["b"])

    assert (changed.name, list(changed.labels), changed.container.pids) == ("Navy", ["b"], 5)
    assert await get(house, "blue") == changed
    (event,) = await house.audited("pool.updated")
    assert json.loads(event.details) == {"name": "Navy", "labels": ["b"]}


async def test_an_update_that_changes_nothing_is_not_audited(house: House) -> None:
    await update(house, "name", id="public", name="Public")

    assert await house.audited("pool.updated") == []


@pytest.mark.parametrize("paths", [(), ("public",), ("id",), ("name", "container.pids")])
async def test_a_mask_of_what_cannot_be_changed_is_refused(house: House, paths: tuple[str, ...]) -> None:
    with pytest.raises(errors.InvalidField, match="update_mask"):
        await update(house, *paths, id="public", name="Other")
    assert (await get(house, "public")).name == "Public"


async def test_an_unknown_pool_is_not_found(house: House) -> None:
    for call in (get(house, "none"), update(house, "name", id="none", name="x"), delete(house, "none")):
        with pytest.raises(errors.NotFound):
            await call


async def test_a_deleted_pool_is_gone_with_its_tokens_and_its_runners_are_cut_off(house: House) -> None:
    await house.create("Blue")
    token = await house.create_token("blue")
    connection = await house.connect(token.secret, hello())
    await delete(house, "blue")

    assert await ids(house) == ["public"]
    assert connection.ended.done()
    assert await house.list_runners() == []
    assert len(await house.audited("pool.deleted")) == 1


async def test_the_public_pool_cannot_be_deleted(house: House) -> None:
    with pytest.raises(errors.InUse, match="public"):
        await delete(house, "public")


async def test_a_pool_that_stacks_name_cannot_be_deleted_and_they_are_named(house: House) -> None:
    await house.create("Blue")
    await house.add_stack("prod", "blue")

    with pytest.raises(errors.InUse, match="prod"):
        await delete(house, "blue")
    assert await ids(house) == ["blue", "public"]


async def test_a_deleted_stack_does_not_keep_its_pool(house: House) -> None:
    await house.create("Blue")
    await house.add_stack("old", "blue", deleted_at=5)

    await delete(house, "blue")

    kept = await house.db.read(lambda connection: connection.execute(sa.select(stacks)).one())
    assert (kept.id, kept.pool_id, kept.deleted_at) == ("old", "public", 5)


async def test_a_pool_with_a_run_that_is_not_over_cannot_be_deleted(house: House) -> None:
    await house.create("Blue")
    await house.add_stack("prod", "public")
    run = {
        "id": "run_1", "stack_id": "prod", "type": "TASK", "state": "PERFORMING", "command": "x",
        "skip_initialization": False, "creator_id": "key_1", "creator_login": "ada", "creator": b"",
        "pool_id": "blue", "decision_id": "", "created_at": 1, "updated_at": 1,
    }  # fmt: skip
    await house.db.write(lambda connection: connection.execute(sa.insert(runs), run))

    with pytest.raises(errors.InUse, match="run_1"):
        await delete(house, "blue")

    await house.db.write(lambda connection: connection.execute(sa.update(runs).values(finished_at=2)))
    await delete(house, "blue")


async def test_pools_are_listed_by_id_page_by_page(house: House) -> None:
    for name in ("d", "b", "a", "c"):
        await house.create(name)

    seen = []
    request = rpc.ListPoolsRequest(page_size=2)
    while True:
        page = await house.servicer.ListPools(request, CONTEXT)
        seen += [pool.id for pool in page.pools]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token

    assert seen == ["a", "b", "c", "d", "public"]


async def test_a_page_token_of_another_query_is_refused(house: House) -> None:
    await house.create("a")
    await house.create_token("a")
    await house.create_token("a")
    request = rpc.ListPoolTokensRequest(pool_id="a", page_size=1)
    token = (await house.servicer.ListPoolTokens(request, CONTEXT)).next_page_token

    with pytest.raises(BadPageToken):
        await ids(house, page_token=token)
    request = rpc.ListPoolTokensRequest(pool_id="public", page_token=token)
    with pytest.raises(BadPageToken):
        await house.servicer.ListPoolTokens(request, CONTEXT)


async def test_any_caller_sees_pools_and_only_admins_change_them(house: House) -> None:
    principal.current.set(READER)

    assert await ids(house) == ["public"]
    assert (await get(house, "public")).id == "public"
    for call in (
        house.create("Blue"),
        update(house, "name", id="public", name="x"),
        delete(house, "public"),
        house.create_token(),
        house.revoke("ptk_" + "0" * 26),
        house.servicer.ListPoolTokens(rpc.ListPoolTokensRequest(pool_id="public"), CONTEXT),
    ):
        with pytest.raises(errors.NotAllowed):
            await call
