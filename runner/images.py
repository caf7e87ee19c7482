"""Makes sure that a run's image is there, by its pull policy, and says what it does in the run's output."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from runner.engine import Engine, PullStatus
from runner.errors import ImageUnavailable

# A line for each tenth of what there is to download, but no more than one for so many bytes.
_MIN_STEP_BYTES = 10_000_000


class PullPolicy(StrEnum):
    IF_NOT_PRESENT = "if_not_present"
    ALWAYS = "always"
    NEVER = "never"


async def ensure_image(engine: Engine, image: str, policy: PullPolicy, say: Callable[[str], None]) -> str:
    """The image's id. `say` gets lines for the run's output, without their newline.

    Raises `ImageUnavailable`, with what to do.
    """
    if policy is not PullPolicy.ALWAYS and (known := await engine.image_id(image)):
        return known
    if policy is PullPolicy.NEVER:
        raise ImageUnavailable(
            f"image {image} is not on the runner, and the stack's pull policy says never to pull it; "
            "load it into the runner's engine, or change the policy"
        )
    say(f"Pulling image {image}")
    progress = PullProgress()

    def show(status: PullStatus) -> None:
        for line in progress.feed(status):
            say(line)

    await engine.pull(image, show)
    return await engine.image_id(image)


class PullProgress:
    """Turns the engine's thousands of messages about a pull into a few lines. Pure."""

    def __init__(self) -> None:
        self._loaded: dict[str, int] = {}
        self._totals: dict[str, int] = {}
        self._said_bytes = 0

    def feed(self, status: PullStatus) -> list[str]:
        text, layer = str(status.get("status", "")), str(status.get("id", ""))
        match text:
            case "Downloading":
                return self._downloading(layer, status.get("progressDetail"))
            case "Download complete":
                self._loaded[layer] = self._totals.get(layer, 0)
                return []
            case _ if text.startswith(("Digest: ", "Status: ")):
                return [text]
        return []

    def _downloading(self, layer: str, detail: object) -> list[str]:
        if not isinstance(detail, dict):
            return []
        self._loaded[layer] = int(detail.get("current", 0))
        self._totals[layer] = int(detail.get("total", 0))
        loaded, total = sum(self._loaded.values()), sum(self._totals.values())
        if loaded < self._said_bytes + max(_MIN_STEP_BYTES, total // 10):
            return []
        self._said_bytes = loaded
        return [f"Downloaded {loaded // 1_000_000} of {total // 1_000_000} MB"]
