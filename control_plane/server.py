"""Wiring: builds the parts of a control plane, starts them, serves, and stops them in the right order.
The only file that knows everyone."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import sqlalchemy as sa
import structlog

from control_plane import errors, listener
from control_plane.audit.rules import AuditLog
from control_plane.audit.sealer import LogSealer
from control_plane.audit.servicer import AuditServicer
from control_plane.config import Config
from control_plane.identity.authenticator import Authenticator
from control_plane.identity.failure_limit import FailureLimit
from control_plane.identity.rules import Keys, first_admin_key
from control_plane.identity.servicer import IdentityServicer
from control_plane.identity.tokens import Tokens
from control_plane.interceptors import CallInterceptor
from control_plane.keeping.compression import Compression, InPlace, Keeper
from control_plane.keeping.ground import UNFINISHED
from control_plane.keeping.packing import InObjectStore
from control_plane.keys import MasterKey, Sealer, checksum_key
from control_plane.limits.rules import LimitSettings
from control_plane.limits.servicer import LimitServicer
from control_plane.paging import PageTokens
from control_plane.policies.access_asked import AccessJudge
from control_plane.policies.approval import ApprovalJudge
from control_plane.policies.attached import AttachmentIndex
from control_plane.policies.attaching import Attachments
from control_plane.policies.backtest import Backtests
from control_plane.policies.catalog import PolicyCatalog
from control_plane.policies.decision_log import DecisionLog
from control_plane.policies.decision_servicer import DecisionServicer
from control_plane.policies.engine import PolicyEngine
from control_plane.policies.guard import PolicyGuard
from control_plane.policies.login import LoginJudge
from control_plane.policies.quarantine import Quarantine
from control_plane.policies.revisions import Revisions
from control_plane.policies.servicer import PolicyServicer
from control_plane.policies.shadow_report import ShadowReports
from control_plane.policies.simulate import Judges, Simulations
from control_plane.policies.tasks import TaskJudge
from control_plane.pools.admission import Admission
from control_plane.pools.connections import Connections
from control_plane.pools.rules import Pools
from control_plane.pools.runners import Runners
from control_plane.pools.servicer import PoolServicer
from control_plane.replicas import together
from control_plane.replicas.hearing import Hearing
from control_plane.replicas.notes import Kind
from control_plane.replicas.registry import Registry, StorageApart
from control_plane.replicas.rounds import Rounds
from control_plane.replicas.together import Together
from control_plane.runs.abandon import Abandonment
from control_plane.runs.asked_approval import AskedApprovals
from control_plane.runs.create import TaskCreation
from control_plane.runs.desk import Desks
from control_plane.runs.explain import Explanations
from control_plane.runs.feeds import Feeds
from control_plane.runs.hold_leases import HoldLeases
from control_plane.runs.hold_requests import HoldRequests
from control_plane.runs.jobs import JobBuilder
from control_plane.runs.kept import KeptPlans
from control_plane.runs.lending import Lending
from control_plane.runs.notices import Notices
from control_plane.runs.queries import Queries
from control_plane.runs.queue_timeouts import QueueTimeouts
from control_plane.runs.reach import Reach
from control_plane.runs.review import Approvals
from control_plane.runs.runner_servicer import RunnerServicer
from control_plane.runs.scheduler import Scheduler
from control_plane.runs.servicer import RunServicer
from control_plane.runs.slot_servicer import SlotServicer
from control_plane.runs.start import RunStarts
from control_plane.runs.watch import Watches
from control_plane.stacks.access import Access
from control_plane.stacks.environment import Environments
from control_plane.stacks.git_source import GitRemotes
from control_plane.stacks.git_url import GitRules
from control_plane.stacks.locks import Locks
from control_plane.stacks.pinning import SourcePins
from control_plane.stacks.rules import Stacks
from control_plane.stacks.secrets import StackSecrets
from control_plane.stacks.servicer import StackServicer
from control_plane.stacks.upload import Uploads
from control_plane.storage import database, installation, shape, sqlite
from control_plane.storage import place as places
from control_plane.storage.database import Database
from control_plane.storage.place import CannotKeep, Place
from interlock.v1 import (
    audit_service_pb2_grpc,
    decision_service_pb2_grpc,
    identity_service_pb2_grpc,
    limit_service_pb2_grpc,
    policy_service_pb2_grpc,
    pool_service_pb2_grpc,
    run_service_pb2_grpc,
    runner_service_pb2_grpc,
    slot_service_pb2_grpc,
    stack_service_pb2_grpc,
)
from policies.workbench.regal import RegalError
from policies.workbench.toolchain import OpaNotFoundError

_GRACE_S = 10.0
_LAST_WORDS_S = 0.5
log = structlog.get_logger(__name__)


class PartBroke(Exception):
    """A part of the server ended by a fault of Interlock; the log has it. Start the server again."""


@dataclass(frozen=True)
class _Servicers:
    """What the listener serves."""

    audit: AuditServicer
    decisions: DecisionServicer
    identity: IdentityServicer
    limits: LimitServicer
    policies: PolicyServicer
    pools: PoolServicer
    runs: RunServicer
    runners: RunnerServicer
    slots: SlotServicer
    stacks: StackServicer


@dataclass(frozen=True)
class ControlPlane:
    """All parts, built and not yet started."""

    db: Database
    replicas: Registry
    together: Together
    engine: PolicyEngine
    catalog: PolicyCatalog
    place: Place
    compression: Compression | None
    scheduler: Scheduler
    kept: KeptPlans
    approvals: Approvals
    backtests: Backtests
    sealer: LogSealer
    reach: Reach
    hold_leases: HoldLeases
    queue_timeouts: QueueTimeouts
    runners: Runners
    watches: Watches
    interceptor: CallInterceptor
    servicers: _Servicers


def build(settings: Config, db: Database, master: MasterKey, engine: PolicyEngine) -> ControlPlane:
    """Connects the parts to each other; starts nothing."""
    sealer, pages = Sealer(master), PageTokens(master)
    connections, feeds = Connections(), Feeds()
    replicas = Registry(db, address=settings.listen, lease_s=settings.runner_lease_s)
    heard = together.postgres_bus(db, replicas)
    bus = together.told(heard)
    notices = Notices(feeds, bus)
    place = _place(settings, db, is_shared=not replicas.is_alone)
    outputs, archives = place.outputs, place.archives
    outputs.on_stored, outputs.on_found = notices.output_stored, feeds.output_grew
    kept = KeptPlans(db, archives, sealer)
    attached = AttachmentIndex(db)
    secrets = StackSecrets(db, sealer)
    task_judge, approval_judge = (
        TaskJudge(engine, attached, secrets), ApprovalJudge(engine, attached, secrets)
    )  # fmt: skip
    guard = PolicyGuard(db, engine, attached, task_judge)
    access = Access(db, guard)
    login_judge, asked_approvals = LoginJudge(db, engine, attached), AskedApprovals(db, approval_judge)
    decisions = DecisionLog(db, engine, guard, pages)
    backtests = Backtests(db, engine, decisions, access)
    approvals = Approvals(db, approval_judge, notices)
    notices.wake_approvals = approvals.wake

    def policies_changed() -> None:
        approvals.wake()
        bus.tell(Kind.POLICIES)

    catalog = PolicyCatalog(db, engine, on_change=policies_changed)
    if not replicas.is_alone:
        attached.on_newer = catalog.look
    queries = Queries(db, guard, connections, outputs, pages, replicas)
    watches = Watches(feeds, outputs, queries)
    scheduler = Scheduler(db, connections, JobBuilder(sealer), sealer, notices)
    notices.wake_scheduler = scheduler.wake
    connections.on_change = notices.capacity_changed
    reach = Reach(db, outputs, connections, notices, replicas, lease_s=settings.runner_lease_s)
    hold_leases, queue_timeouts = HoldLeases(db, feeds, notices), QueueTimeouts(db, notices)
    notices.wake_queue_timeouts = queue_timeouts.wake
    desks = Desks(db, outputs, connections, feeds, notices, replicas)
    runners = Runners(db, connections, replicas)
    authenticator, failures = Authenticator(db, tokens := Tokens(master)), FailureLimit()
    git_rules = GitRules(allow_http="http" in settings.git_allow, allow_file="file" in settings.git_allow)
    pins = SourcePins(sealer, GitRemotes(git_rules))

    def stack_changed(stack_id: str) -> None:
        notices.queue_changed(stack_id)
        approvals.wake()

    servicers = _Servicers(
        audit=AuditServicer(AuditLog(db), pages),
        identity=IdentityServicer(
            Keys(
                db,
                tokens=tokens,
                authenticator=authenticator,
                failures=failures,
                logins=login_judge,
                bus=bus,
            ),
            pages,
        ),
        limits=LimitServicer(LimitSettings(db, on_change=notices.limits_changed), pages),
        decisions=DecisionServicer(decisions),
        policies=PolicyServicer(
            catalog,
            Attachments(db, access, on_change=policies_changed),
            Revisions(db),
            ShadowReports(db, decisions),
            Simulations(
                db,
                engine,
                access,
                secrets,
                Judges(task_judge, AccessJudge(engine, attached), asked_approvals, login_judge),
            ),
            backtests,
            _quarantine(db, engine, policies_changed),
            access,
            pages,
        ),
        pools=PoolServicer(Pools(db, connections, bus), runners, pages),
        runs=RunServicer(
            db,
            TaskCreation(db, guard, pins, queries, notices, approvals),
            RunStarts(db, guard, pins, queries, notices),
            Abandonment(db, outputs, connections, notices),
            queries,
            watches,
            connections,
            notices,
            authenticator,
            approvals,
            Explanations(db, task_judge, asked_approvals),
        ),
        runners=RunnerServicer(
            db, Admission(db, failures=failures), connections, desks, reach, sealer, archives, kept
        ),
        slots=SlotServicer(
            Lending(db, HoldRequests(db, guard, notices), queries, watches, hold_leases, notices),
            queries,
            authenticator,
        ),
        stacks=StackServicer(
            Stacks(db, access, sealer, git_rules=git_rules, on_change=stack_changed),
            Locks(db, access, on_change=stack_changed),
            Environments(db, access, sealer),
            Uploads(db, access, archives, max_bytes=settings.max_upload_bytes),
            pages,
        ),
    )
    compression = None
    if settings.compress_after_s is not None:
        compression = Compression(
            db, outputs, _keeper(db, place, settings.data_dir), after_s=settings.compress_after_s
        )
    hearing = Hearing(feeds, connections, authenticator, scheduler.wake, catalog.look)
    rounds = Rounds(
        db,
        replicas,
        connections=connections,
        feeds=feeds,
        reach=reach,
        lease_s=settings.runner_lease_s,
        wake_scheduler=scheduler.wake,
        policies_changed=catalog.look,
    )
    return ControlPlane(
        db,
        replicas,
        Together(heard, hearing, rounds),
        engine,
        catalog,
        place,
        compression,
        scheduler,
        kept,
        approvals,
        backtests,
        LogSealer(db),
        reach,
        hold_leases,
        queue_timeouts,
        runners,
        watches,
        CallInterceptor(authenticator),
        servicers,
    )


def _quarantine(db: Database, engine: PolicyEngine, on_change: Callable[[], None]) -> Quarantine:
    """To which the engine reports."""
    quarantine = Quarantine(db, on_change=on_change)
    engine.report_to(quarantine)
    return quarantine


async def serve(settings: Config) -> None:
    """Serves until SIGTERM or SIGINT, then ends in order: nobody new, watchers and runners told, output flushed.

    Raises:
        CannotStart, MasterKeyError, CannotMigrateError, PartBroke: with what to do.
    """
    _require_whole(settings)
    with _only_one(settings.data_dir), _database(settings.database_url) as db:
        await _migrate(db)
        master = await installation.master_key(
            db, given=settings.master_key, file=settings.data_dir / "master.key"
        )
        plane = build(settings, db, master, _engine(settings, master))
        stop: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        async with _started(plane, settings, stop):
            await _serve_calls(settings, plane, stop)


def _require_whole(settings: Config) -> None:
    for folder in (settings.data_dir, settings.shared_dir):
        if (folder / UNFINISHED).exists():
            raise listener.CannotStart(
                f"a restore into {folder} did not end: what is there is not whole. Empty that folder, and a database on "
                "PostgreSQL, then run `interlock admin restore` again"
            )


@contextlib.contextmanager
def _database(url: str) -> Iterator[Database]:
    """Open, and where it is a file of SQLite, ours alone."""
    try:
        parsed = database.parse(url)
        with sqlite.only_one(parsed) if parsed.get_backend_name() == "sqlite" else contextlib.nullcontext():
            db = Database(url)
            try:
                yield db
            finally:
                db.close()
    except ModuleNotFoundError as error:
        if error.name != "psycopg":
            raise
        raise listener.CannotStart(
            "PostgreSQL's driver is not installed: pip install 'interlock[server,postgres]'"
        ) from error
    except (database.UnknownDatabase, sqlite.FileInUse) as error:
        raise listener.CannotStart(f"INTERLOCK_DATABASE_URL: {error}") from error


async def _migrate(db: Database) -> None:
    try:
        await asyncio.to_thread(shape.ensure, db.engine)
    except sa.exc.DatabaseError as error:
        raise listener.CannotStart(
            f"the database {db.engine.url} cannot be used ({error.orig}); is it the right one, and all there? "
            "Correct INTERLOCK_DATABASE_URL, or restore its backup"
        ) from error


@contextlib.asynccontextmanager
async def _started(plane: ControlPlane, settings: Config, stop: asyncio.Future[None]) -> AsyncIterator[None]:
    try:
        await plane.replicas.start(settings.data_dir, await plane.place.identity(settings.data_dir))
    except (StorageApart, CannotKeep) as error:
        raise listener.CannotStart(str(error)) from error
    await plane.engine.start(await plane.catalog.load())
    background = [
        _background(plane.place.outputs.serve(), "output", stop),
        _background(plane.scheduler.serve(), "scheduler", stop),
        _background(plane.approvals.serve(), "approvals", stop),
        _background(plane.reach.serve(), "reach", stop),
        _background(plane.hold_leases.serve(), "hold-leases", stop),
        _background(plane.queue_timeouts.serve(), "queue-timeouts", stop),
        _background(plane.kept.serve(), "kept-plans", stop),
        _background(plane.sealer.run(), "audit-sealer", stop),
        _background(plane.runners.run(), "runners", stop),
        _background(plane.catalog.follow(), "policies", stop),
        _background(plane.together.serve(), "replicas", stop),
    ]
    if plane.compression is not None:
        background.append(_background(plane.compression.serve(), "compression", stop))
    await plane.reach.start()
    try:
        yield
    finally:
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await plane.engine.stop()
        await _leave(plane.replicas)


async def _leave(replicas: Registry) -> None:
    try:
        await replicas.leave()
    except errors.DomainError as error:
        log.warning("replica.left_without_a_word", cause=error.message)


async def _serve_calls(settings: Config, plane: ControlPlane, stop: asyncio.Future[None]) -> None:
    server = grpc.aio.server(interceptors=[plane.interceptor], options=listener.OPTIONS)
    _add_servicers(server, plane.servicers)
    status = await listener.add_health_and_reflection(server)
    address = listener.bind(server, settings)
    await _show_first_key(settings, plane.db, address)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, _settle, stop)
    # What is there by now stays; each full garbage collection would look through all of it, for 60 ms.
    gc.freeze()
    await server.start()
    _announce(settings.data_dir, address)
    log.info("server.ready", address=address, data_dir=str(settings.data_dir))
    try:
        await stop
    finally:
        log.info("server.stopping", grace_s=_GRACE_S)
        await status.enter_graceful_shutdown()
        plane.servicers.runners.close()
        plane.watches.close()
        plane.backtests.close()
        await plane.interceptor.door.close(within_s=_GRACE_S)
        # gRPC answers a call that meets its end with a bare CANCELLED: first everybody hears UNAVAILABLE.
        await asyncio.sleep(_LAST_WORDS_S)
        await server.stop(_GRACE_S)
        (settings.data_dir / "server.json").unlink(missing_ok=True)


def _background(work: Coroutine[Any, Any, None], name: str, stop: asyncio.Future[None]) -> asyncio.Task[None]:
    """A part that must never end while the server runs: if it breaks, the server goes down, to be started again."""

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("server.part_broke", part=name, exc_info=error)
            _settle(stop, PartBroke(f"{name} broke: {error}"))

    task = asyncio.create_task(work, name=name)
    task.add_done_callback(ended)
    return task


def _settle(stop: asyncio.Future[None], error: Exception | None = None) -> None:
    """Ends the server, in peace or for this error; the first word counts."""
    if stop.done():
        return
    if error is None:
        stop.set_result(None)
    else:
        stop.set_exception(error)


def _place(settings: Config, db: Database, *, is_shared: bool) -> Place:
    try:
        return places.make(
            db, shared_dir=settings.shared_dir, address=settings.object_store, is_shared=is_shared
        )
    except CannotKeep as error:
        raise listener.CannotStart(str(error)) from error


def _keeper(db: Database, place: Place, data_dir: Path) -> Keeper:
    if place.store is None:
        return InPlace(place.files)
    return InObjectStore(db, place.store, place.outputs, place.files, data_dir)


def _engine(settings: Config, master: MasterKey) -> PolicyEngine:
    try:
        return PolicyEngine.from_environment(
            sanitizer_key=checksum_key(master),
            environment={
                **os.environ,
                "INTERLOCK_OPA_URL": settings.opa_url,
                "INTERLOCK_OPA_TOKEN": settings.opa_token,
                "INTERLOCK_OPA": settings.opa,
                "INTERLOCK_REGAL": settings.regal,
            },
        )
    except (OpaNotFoundError, RegalError, ValueError) as error:
        raise listener.CannotStart(str(error)) from error


def _add_servicers(server: grpc.aio.Server, servicers: _Servicers) -> None:
    audit_service_pb2_grpc.add_AuditServiceServicer_to_server(servicers.audit, server)
    decision_service_pb2_grpc.add_DecisionServiceServicer_to_server(servicers.decisions, server)
    identity_service_pb2_grpc.add_IdentityServiceServicer_to_server(servicers.identity, server)
    limit_service_pb2_grpc.add_LimitServiceServicer_to_server(servicers.limits, server)
    policy_service_pb2_grpc.add_PolicyServiceServicer_to_server(servicers.policies, server)
    pool_service_pb2_grpc.add_PoolServiceServicer_to_server(servicers.pools, server)
    run_service_pb2_grpc.add_RunServiceServicer_to_server(servicers.runs, server)
    runner_service_pb2_grpc.add_RunnerServiceServicer_to_server(servicers.runners, server)
    slot_service_pb2_grpc.add_SlotServiceServicer_to_server(servicers.slots, server)
    stack_service_pb2_grpc.add_StackServiceServicer_to_server(servicers.stacks, server)


async def _show_first_key(settings: Config, db: Database, address: str) -> None:
    """Makes the first admin key where there is no key yet, and shows it once."""
    first = await first_admin_key(db)
    if first is None:
        return
    key = first[1].text
    if settings.first_key_file is not None:
        descriptor = os.open(settings.first_key_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(key + "\n")
        return
    print(
        "This is the first start. Here is an admin's API key; it is shown only this once:\n\n"
        f"    export INTERLOCK_ADDRESS={address}\n"
        f"    export INTERLOCK_API_KEY={key}\n\n"
        "Next: `interlock whoami`, then `interlock key create` for everybody else, "
        "`interlock pool token create public` for a runner.",
        file=sys.stderr,
        flush=True,
    )


def _announce(data_dir: Path, address: str) -> None:
    """Writes server.json whole or not at all: who reads it can connect."""
    target = data_dir / "server.json"
    temporary = target.with_suffix(".tmp")
    temporary.write_text(json.dumps({"address": address, "pid": os.getpid()}) + "\n")
    temporary.replace(target)


@contextlib.contextmanager
def _only_one(data_dir: Path) -> Iterator[None]:
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (data_dir / "server.lock").open("w")
    except OSError as error:
        raise listener.CannotStart(
            f"the folder {data_dir} cannot be used ({error.strerror}); set INTERLOCK_DATA_DIR to another one"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise listener.CannotStart(
                f"another control plane uses {data_dir}; stop it, or set INTERLOCK_DATA_DIR to another folder"
            ) from error
        yield
