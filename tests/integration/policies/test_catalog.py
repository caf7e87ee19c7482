"""A change of a policy is committed or it is not, and the answer says which, also where OPA dies in between."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from control_plane import errors
from control_plane.identity.principal import Principal
from control_plane.policies.catalog import PolicyCatalog
from control_plane.policies.engine import LoadedPolicy, PolicyEngine
from control_plane.policies.errors import OpaUnavailable
from control_plane.policies.opa import SupervisedOpa
from control_plane.storage.database import Database
from control_plane.storage.migrate import migrate
from interlock.v1 import policy_pb2
from interlock.v1 import policy_service_pb2 as rpc
from policies.workbench.compiler import Compiler
from tests.integration.policies.house import DENY_NOTHING, SANITIZER_KEY

ADMIN = Principal(id="key_1", login="root", name="Root", admin=True)


class DyingEngine(PolicyEngine):
    """Its OPA answers when it is asked whether it is there, and is gone when the change comes."""

    async def ensure_available(self) -> None:
        pass

    async def put(self, policy: LoadedPolicy) -> None:
        raise OpaUnavailable("it died")

    async def remove(self, policy_id: str) -> None:
        raise OpaUnavailable("it died")


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/interlock.db")
    migrate(database.engine)
    yield database
    database.close()


async def test_a_change_that_was_committed_is_no_failure_where_opa_dies_before_it_has_it(
    db: Database, opa_path: Path, compiler: Compiler
) -> None:
    engine = DyingEngine(SupervisedOpa(opa_path), compiler, sanitizer_key=SANITIZER_KEY)
    catalog = PolicyCatalog(db, engine)
    wanted = policy_pb2.Policy(name="No taint", kind=policy_pb2.POLICY_KIND_TASK, body=DENY_NOTHING)
    made = await catalog.create(ADMIN, rpc.CreatePolicyRequest(policy=wanted))
    assert (await catalog.get(made.id)).revision == 1
    await catalog.delete(ADMIN, made.id, "")
    with pytest.raises(errors.NotFound):
        await catalog.get(made.id)
