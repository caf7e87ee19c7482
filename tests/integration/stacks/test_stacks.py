"""Stacks: made, read, changed and deleted, by whom and when."""

from __future__ import annotations

import asyncio
import json

import pytest
import sqlalchemy as sa

from control_plane import clock, errors
from control_plane.identity import principal
from control_plane.identity.principal import Principal
from control_plane.paging import BadPageToken
from control_plane.stacks import snapshot
from control_plane.stacks.errors import StackBusy
from control_plane.storage import tables
from interlock.v1 import stack_pb2
from interlock.v1 import stack_service_pb2 as rpc
from tests.integration.stacks.house import ADMIN, READER, STRANGER, WRITER, House, a_stack, git_source


async def test_a_new_stack_has_what_was_asked_for_and_the_defaults(house: House) -> None:
    made = await house.create("", name="Prod network", labels=["prod", "eu"])

    assert made.id == "prod-network"
    assert made.labels == ("prod", "eu")
    assert (made.source_kind, made.archive_sha256) == ("archive", "")
    assert (made.pool.id, made.pool.public) == ("public", True)
    assert made.pull_policy == stack_pb2.PULL_POLICY_IF_NOT_PRESENT
    assert (made.fence, made.queued_runs, made.active_run_id, made.lock) == (0, 0, None, None)
    assert await house.load("prod-network") == made


async def test_every_field_comes_back_as_it_was_given(house: House) -> None:
    wanted = a_stack(
        name="N", description="d", labels=["l"], tool=stack_pb2.TOOL_CUSTOM, custom_init=["make"],
        pull_policy=stack_pb2.PULL_POLICY_NEVER, hooks=stack_pb2.Hooks(before_init=["a", "b"], after_run=["c"]),
        administrative=True, source=git_source("https://git.example/x", password="token"),
    )  # fmt: skip
    wanted.source.project_root = "./infra/"
    principal.current.set(ADMIN)

    made = await house.servicer.CreateStack(rpc.CreateStackRequest(stack=wanted), None)  # type: ignore[arg-type]

    for name in ("id", "name", "description", "labels", "tool", "custom_init", "image", "pull_policy", "hooks",
                 "administrative"):  # fmt: skip
        assert getattr(made, name) == getattr(wanted, name)
    assert made.source.project_root == "infra"
    assert made.source.git.has_credential
    assert not made.source.git.HasField("credential")
    assert b"token" not in made.SerializeToString()


@pytest.mark.parametrize("caller", [WRITER, READER, STRANGER])
async def test_only_an_admin_creates_changes_and_deletes_stacks(house: House, caller: Principal) -> None:
    await house.create()
    for call in (
        house.stacks.create(caller, rpc.CreateStackRequest(stack=a_stack("other"))),
        house.stacks.update(caller, stack_pb2.Stack(id="network", name="x"), ["name"]),
        house.stacks.delete(caller, "network", ""),
    ):
        with pytest.raises(errors.NotAllowed, match="only an admin may"):
            await call
    assert (await house.load()).version == 1
    assert await house.count(tables.stacks) == 1


async def test_an_id_that_is_taken_is_refused(house: House) -> None:
    await house.create()
    with pytest.raises(errors.AlreadyExists):
        await house.create(name="another")
    assert await house.count(tables.stacks) == 1


async def test_an_id_is_never_given_again(house: House) -> None:
    await house.create()
    await house.stacks.delete(ADMIN, "network", "")
    with pytest.raises(errors.AlreadyExists, match="existed and was deleted"):
        await house.create()


async def test_of_two_creates_of_one_id_at_once_one_wins(house: House) -> None:
    outcomes = await asyncio.gather(house.create(name="a"), house.create(name="b"), return_exceptions=True)

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["AlreadyExists", "StackSnapshot"]
    assert len(await house.audited("stack.created")) == 1


async def test_the_same_request_id_gives_the_same_stack_and_not_two(house: House) -> None:
    request = rpc.CreateStackRequest(stack=a_stack(""), request_id="r1")

    first, again = await house.stacks.create(ADMIN, request), await house.stacks.create(ADMIN, request)

    assert first == again
    assert await house.count(tables.stacks) == len(await house.audited("stack.created")) == 1


async def test_the_same_request_id_with_other_content_is_refused(house: House) -> None:
    await house.stacks.create(ADMIN, rpc.CreateStackRequest(stack=a_stack("a"), request_id="r1"))
    with pytest.raises(errors.RequestIdReused):
        await house.stacks.create(ADMIN, rpc.CreateStackRequest(stack=a_stack("b"), request_id="r1"))
    assert await house.count(tables.stacks) == 1


async def test_an_unknown_pool_is_refused(house: House) -> None:
    with pytest.raises(errors.NotFound, match="pool 'nowhere'"):
        await house.create(pool_id="nowhere")
    await house.create()
    with pytest.raises(errors.NotFound, match="pool 'nowhere'"):
        await house.update("pool_id", pool_id="nowhere")
    assert (await house.load()).pool.id == "public"


async def test_a_bad_source_creates_nothing(house: House) -> None:
    with pytest.raises(errors.InvalidField, match="remote helper"):
        await house.create(source=git_source("ext::sh", "main"))
    with pytest.raises(errors.InvalidField, match="like an option"):
        await house.create(source=git_source("https://git.example/x", "--upload-pack=x"))
    assert await house.count(tables.stacks) == 0


async def test_a_stack_that_is_not_there_and_one_that_may_not_be_read_look_the_same(house: House) -> None:
    await house.create()
    messages = []
    for stack_id in ("network", "nothing"):
        with pytest.raises(errors.NotFound) as caught:
            await house.stacks.get(STRANGER, stack_id)
        messages.append(caught.value.message.replace(stack_id, "X"))
    assert messages[0] == messages[1]


async def test_a_reader_reads(house: House) -> None:
    made = await house.create()
    assert await house.stacks.get(READER, "network") == made


async def test_an_update_changes_the_fields_of_its_mask_and_the_etag(house: House) -> None:
    before = await house.create(labels=["a"])

    after = await house.update("labels", "name", labels=["b"], name="New", image="ignored")

    assert (after.labels, after.name, after.image) == (("b",), "New", "busybox")
    assert after.etag != before.etag
    [event] = await house.audited("stack.updated")
    assert json.loads(event.details) == {"fields": ["labels", "name"]}
    assert house.woken == ["network"]


async def test_an_update_of_an_old_state_is_refused(house: House) -> None:
    before = await house.create()
    await house.update("name", name="first", etag=before.etag)
    with pytest.raises(errors.StaleEtag):
        await house.update("name", name="second", etag=before.etag)
    assert (await house.load()).name == "first"


async def test_of_two_updates_of_one_etag_at_once_one_wins(house: House) -> None:
    before = await house.create()
    outcomes = await asyncio.gather(
        *(house.update("name", name=name, etag=before.etag) for name in "abcd"), return_exceptions=True
    )
    assert [type(outcome).__name__ for outcome in outcomes].count("StaleEtag") == 3
    assert (await house.load()).version == before.version + 1


async def test_an_unknown_stack_is_not_updated_or_deleted(house: House) -> None:
    with pytest.raises(errors.NotFound):
        await house.update("name", name="x")
    with pytest.raises(errors.NotFound):
        await house.stacks.delete(ADMIN, "network", "")


async def test_a_custom_init_of_the_other_tool_is_refused_in_an_update_too(house: House) -> None:
    await house.create(tool=stack_pb2.TOOL_CUSTOM, custom_init=["make"])
    with pytest.raises(errors.InvalidField, match="custom_init"):
        await house.update("tool", tool=stack_pb2.TOOL_TERRAFORM)
    after = await house.update("tool", "custom_init", tool=stack_pb2.TOOL_TERRAFORM)
    assert after.custom_init == ()


async def test_a_stored_credential_stays_for_its_host_only(house: House) -> None:
    await house.create(source=git_source("https://git.example/a", password="token"))

    after = await house.update("source", source=git_source("https://git.example/b"))
    assert after.git_credential_sealed is not None
    with pytest.raises(errors.InvalidField, match="stored for another host"):
        await house.update("source", source=git_source("https://evil.example/b"))
    assert (await house.load()).git_url == "https://git.example/b"


async def test_an_empty_credential_removes_the_stored_one(house: House) -> None:
    await house.create(source=git_source("https://git.example/a", password="token"))
    after = await house.update("source", source=git_source("https://other.example/a", password=""))
    assert after.git_credential_sealed is None


async def test_a_source_that_becomes_another_kind_forgets_the_first(house: House) -> None:
    await house.create(source=git_source("https://git.example/a", password="token"))
    after = await house.update("source", source=stack_pb2.Source(archive=stack_pb2.ArchiveSource()))
    assert (after.source_kind, after.git_url, after.git_ref) == ("archive", "", "")
    assert after.git_credential_sealed is None


@pytest.mark.parametrize("state", ["PENDING_REVIEW", "QUEUED", "READY", "PERFORMING"])
async def test_a_stack_with_a_run_that_is_not_over_is_not_deleted(house: House, state: str) -> None:
    await house.create()
    run_id = await house.add_run(state)
    with pytest.raises(StackBusy, match=run_id):
        await house.stacks.delete(ADMIN, "network", "")
    assert (await house.load()).deleted_at is None


async def test_a_deleted_stack_leaves_the_record_of_its_runs_and_none_of_its_secrets(house: House) -> None:
    await house.create(source=git_source("https://git.example/a", password="token"))
    run_id = await house.add_run("FINISHED")
    await house.environments.set(
        WRITER,
        "network",
        [stack_pb2.EnvironmentVariable(name="TOKEN", value="secret", secret=True)],
        [stack_pb2.MountedFile(path="key", content=b"secret", secret=True)],
    )
    await house.locks.lock(WRITER, ["network"], "mine")

    await house.stacks.delete(ADMIN, "network", "")

    with pytest.raises(errors.NotFound):
        await house.stacks.get(ADMIN, "network")
    stack = await house.load()
    assert (stack.lock, stack.git_credential_sealed) == (None, None)
    assert await house.count(tables.environment_variables) == await house.count(tables.mounted_files) == 0
    assert await house.db.read(lambda tx: tx.execute(sa.select(tables.runs.c.id)).scalar_one()) == run_id
    assert len(await house.audited("stack.deleted")) == 1


async def test_deleting_a_stack_detaches_its_policies_and_says_so_to_who_keeps_them(house: House) -> None:
    await house.create()
    before = await house.db.write(lambda tx: _attach_a_policy(tx, "network"))

    await house.stacks.delete(ADMIN, "network", "")

    assert await house.count(tables.policy_attachments) == 0
    assert await house.db.read(_policies_counter) == before + 1


async def test_a_stale_etag_does_not_delete(house: House) -> None:
    before = await house.create()
    await house.update("name", name="x")
    with pytest.raises(errors.StaleEtag):
        await house.stacks.delete(ADMIN, "network", before.etag)
    assert (await house.load()).deleted_at is None


async def test_a_failed_change_leaves_no_audit_event(house: House) -> None:
    await house.create()
    await house.add_run("QUEUED")
    with pytest.raises(StackBusy):
        await house.stacks.delete(ADMIN, "network", "")
    with pytest.raises(errors.InvalidField):
        await house.update("name", name="")
    assert await house.audited("stack.deleted") == await house.audited("stack.updated") == []


async def test_the_list_has_the_readable_stacks_by_id_page_by_page(house: House) -> None:
    for number in range(5):
        await house.create(f"s{number}")
    house.grants.hidden = {"s1", "s4"}
    principal.current.set(READER)
    query = rpc.ListStacksRequest(page_size=2)

    first = await house.servicer.ListStacks(query, None)  # type: ignore[arg-type]
    query.page_token = first.next_page_token
    second = await house.servicer.ListStacks(query, None)  # type: ignore[arg-type]

    assert [stack.id for stack in first.stacks] == ["s0", "s2"]
    assert [stack.id for stack in second.stacks] == ["s3"]
    assert second.next_page_token == ""


async def test_the_list_is_filtered_by_all_labels(house: House) -> None:
    await house.create("a", labels=["x", "y"])
    await house.create("b", labels=["x"])
    await house.create("c", labels=["x", "y", "z"])

    found, next_after = await house.stacks.list_page(ADMIN, ["x", "y"], "", 10)

    assert [stack.id for stack in found] == ["a", "c"]
    assert next_after == ""


async def test_a_list_without_deleted_stacks_goes_past_them(house: House) -> None:
    for name in "abc":
        await house.create(name)
    await house.stacks.delete(ADMIN, "b", "")
    found, _ = await house.stacks.list_page(ADMIN, [], "", 10)
    assert [stack.id for stack in found] == ["a", "c"]


async def test_a_page_token_of_another_query_is_refused(house: House) -> None:
    for name in "ab":
        await house.create(name)
    principal.current.set(ADMIN)
    first = await house.servicer.ListStacks(rpc.ListStacksRequest(page_size=1), None)  # type: ignore[arg-type]
    assert first.next_page_token
    other = rpc.ListStacksRequest(page_size=1, labels=["x"], page_token=first.next_page_token)
    with pytest.raises(BadPageToken):
        await house.servicer.ListStacks(other, None)  # type: ignore[arg-type]


async def test_a_snapshot_shows_slot_queue_and_active_run(house: House) -> None:
    await house.create()
    active = await house.add_run("PERFORMING")
    await house.add_run("QUEUED")

    stack = await house.load()

    assert (stack.active_run_id, stack.active_run_state) == (active, "PERFORMING")
    assert (stack.fence, stack.queued_runs) == (1, 1)


async def test_the_version_is_seen_until_the_stack_is_gone(house: House) -> None:
    await house.create()
    await house.update("name", name="x")
    assert await house.db.write(lambda tx: snapshot.version_of(tx, "network")) == 2
    await house.stacks.delete(ADMIN, "network", "")
    assert await house.db.write(lambda tx: snapshot.version_of(tx, "network")) is None


async def test_every_change_is_audited_with_who_did_it(house: House) -> None:
    await house.create()
    await house.update("name", name="x")
    await house.stacks.delete(ADMIN, "network", "")
    for action in ("stack.created", "stack.updated", "stack.deleted"):
        [event] = await house.audited(action)
        assert (event.caller_id, event.resource_id, event.stack_id) == (ADMIN.id, "network", "network")


def _attach_a_policy(tx: sa.Connection, stack_id: str) -> int:
    now = clock.now_us()
    policy = {"id": "pol_1", "name": "p", "description": "", "kind": "task", "body": "", "module": "",
              "rego_version": 1, "labels": [], "revision": 1, "version": 1, "created_at": now,
              "updated_at": now}  # fmt: skip
    tx.execute(sa.insert(tables.policies), policy)
    attachment = {"policy_id": "pol_1", "stack_id": stack_id, "attached_at": now}
    tx.execute(sa.insert(tables.policy_attachments), attachment)
    return _policies_counter(tx)


def _policies_counter(tx: sa.Connection) -> int:
    counter = sa.select(tables.counters.c.value).where(tables.counters.c.name == "policies")
    return int(tx.execute(counter).scalar_one())
