"""`interlock pool`: sets of runners and the tokens they come in with."""

from datetime import timedelta
from typing import Annotated

import typer

from interlock.cli import complete, confirm, durations, pool_token, show, sizes
from interlock.cli.session import connect
from interlock.types import ContainerOptions, Pool

app = typer.Typer(no_args_is_help=True, help="Make pools of runners, and say what their containers get.")
app.add_typer(pool_token.app, name="token")

PoolId = Annotated[str, typer.Argument(metavar="POOL", help="The pool's id.", autocompletion=complete.pools)]
Memory = Annotated[str | None, typer.Option(metavar="SIZE", help="Memory, e.g. 512M or 4G. By default 2G.")]
Cpus = Annotated[float | None, typer.Option(min=0.0, help="Cores, e.g. 0.5. By default no limit.")]
Pids = Annotated[int | None, typer.Option(min=0, help="Processes and threads. By default 1024.")]
Network = Annotated[str | None, typer.Option(help="The engine's network mode; none for no network.")]
Mount = Annotated[
    list[str] | None, typer.Option(metavar="HOST:CONTAINER[:ro]", help="A folder to mount. May be repeated.")
]
Runtime = Annotated[str | None, typer.Option(help="The engine's runtime, e.g. runsc.")]
NoOutputTimeout = Annotated[
    str | None, typer.Option(metavar="DURATION", help="End a silent run before its gate. By default 7m.")
]
TotalTimeout = Annotated[
    str | None, typer.Option(metavar="DURATION", help="End a run before its gate. By default 70m.")
]


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A name for people; the id is made from it.")],
    pool_id: Annotated[str, typer.Option("--id", help="The id, if not made from the name.")] = "",
    public: Annotated[bool, typer.Option("--public", help="Any stack may name it.")] = False,
    label: Annotated[list[str] | None, typer.Option(help="For policies. May be repeated.")] = None,
    memory: Memory = None,
    cpus: Cpus = None,
    pids: Pids = None,
    network: Network = None,
    mount: Mount = None,
    runtime: Runtime = None,
    no_output_timeout: NoOutputTimeout = None,
    total_timeout: TotalTimeout = None,
    output: show.Output = show.Format.TEXT,
) -> None:
    """Makes a pool. Give its runners a token: `interlock pool token create POOL`."""
    container = ContainerOptions()
    _change(container, memory, cpus, pids, network, mount, runtime, no_output_timeout, total_timeout)
    with connect(context) as client:
        pool = client.pools.create(
            name, pool_id=pool_id, public=public, labels=label or (), container=container
        )
    show.done(
        pool, f"pool {pool.id} is made; its runners need: interlock pool token create {pool.id}", output
    )


@app.command("list")
def list_(context: typer.Context, output: show.Output = show.Format.TEXT) -> None:
    """Lists the pools by id, with the runners that are connected now."""
    columns = {
        "ID": lambda pool: pool.id,
        "NAME": lambda pool: pool.name,
        "KIND": lambda pool: "public" if pool.public else "private",
        "RUNNERS": lambda pool: str(pool.connected_runners),
        "FREE": lambda pool: str(pool.free_capacity),
        "LABELS": lambda pool: ",".join(pool.labels),
    }
    with connect(context) as client:
        show.table(client.pools.list(), columns, output)


@app.command("show")
def show_(context: typer.Context, pool_id: PoolId, output: show.Output = show.Format.TEXT) -> None:
    """Shows a pool and what its containers get."""
    with connect(context) as client:
        pool = client.pools.get(pool_id)
    show.record(pool, _fields(pool), output)


@app.command()
def update(
    context: typer.Context,
    pool_id: PoolId,
    name: Annotated[str | None, typer.Option(help="The new name.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="The new labels, in place of all old ones.")] = None,
    no_labels: Annotated[bool, typer.Option("--no-labels", help="Take all labels off.")] = False,
    memory: Memory = None,
    cpus: Cpus = None,
    pids: Pids = None,
    network: Network = None,
    mount: Mount = None,
    runtime: Runtime = None,
    no_output_timeout: NoOutputTimeout = None,
    total_timeout: TotalTimeout = None,
    output: show.Output = show.Format.TEXT,
) -> None:
    """Changes what is given and leaves the rest. Counts for containers made afterwards."""
    with connect(context) as client:
        container = client.pools.get(pool_id).container
        is_changed = _change(
            container, memory, cpus, pids, network, mount, runtime, no_output_timeout, total_timeout
        )
        pool = client.pools.update(
            pool_id,
            name=name,
            labels=[] if no_labels else label or None,
            container=container if is_changed else None,
        )
    show.done(pool, f"pool {pool.id} is changed", output)


@app.command()
def delete(context: typer.Context, pool_id: PoolId, yes: confirm.Yes = False) -> None:
    """Deletes a pool that no stack names."""
    confirm.require(f"delete pool {pool_id}", yes=yes)
    with connect(context) as client:
        client.pools.delete(pool_id)
    show.note(f"pool {pool_id} is deleted")


def _change(
    container: ContainerOptions,
    memory: str | None,
    cpus: float | None,
    pids: int | None,
    network: str | None,
    mount: list[str] | None,
    runtime: str | None,
    no_output_timeout: str | None,
    total_timeout: str | None,
) -> bool:
    """Puts the options that were given into `container`; False where none was."""
    numbers_and_names = {
        "memory_bytes": None if memory is None else sizes.parse(memory),
        "cpu_millis": None if cpus is None else round(cpus * 1000),
        "pids": pids,
        "network_mode": network,
        "runtime": runtime,
    }
    given = {field: value for field, value in numbers_and_names.items() if value is not None}
    for field, value in given.items():
        setattr(container, field, value)
    if mount:
        container.mounts[:] = mount
    if no_output_timeout:
        container.no_output_timeout.FromTimedelta(durations.parse(no_output_timeout))
    if total_timeout:
        container.total_timeout.FromTimedelta(durations.parse(total_timeout))
    return bool(given or mount or no_output_timeout or total_timeout)


def _fields(pool: Pool) -> dict[str, str]:
    container = pool.container
    return {
        "id": pool.id,
        "name": pool.name,
        "kind": "public" if pool.public else "private",
        "labels": ", ".join(pool.labels),
        "runners": f"{pool.connected_runners} connected, room for {pool.free_capacity} runs",
        "memory": f"{container.memory_bytes} bytes" if container.memory_bytes else "",
        "cpus": f"{container.cpu_millis / 1000:g}" if container.cpu_millis else "",
        "pids": str(container.pids or ""),
        "network": container.network_mode,
        "mounts": ", ".join(container.mounts),
        "runtime": container.runtime,
        "no-output time-out": _text(container.no_output_timeout.ToTimedelta()),
        "total time-out": _text(container.total_timeout.ToTimedelta()),
        "created": show.when(pool.create_time),
    }


def _text(duration: timedelta) -> str:
    return str(duration) if duration else ""
