"""The Python SDK of Interlock, asynchronous; `interlock.sync` is the same without an event loop.

    async with interlock.connect("interlock.example.com:443", api_key=key) as client:
        run = await client.runs.create_task("network", "terraform state list")
        async for event in client.runs.follow(run.id):
            match event:
                case interlock.types.OutputChunk(data=data):
                    sys.stdout.buffer.write(data)
                case interlock.types.Run() as run:
                    ...

Results are the API's own messages (`interlock.types`); what goes wrong is an `InterlockError`, of the class
in `interlock.errors` that says what to do about it.
"""

from interlock import errors, sync, types
from interlock.channel import Tls
from interlock.client import Client, connect
from interlock.errors import InterlockError
from interlock.retry import Retry
from interlock.sources import archive, git
from interlock.states import FINAL_STATES, is_final

__all__ = [
    "FINAL_STATES",
    "Client",
    "InterlockError",
    "Retry",
    "Tls",
    "archive",
    "connect",
    "errors",
    "git",
    "is_final",
    "sync",
    "types",
]
