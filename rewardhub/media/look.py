"""Whether images can be decoded, which their headers do not tell, for those who pass them on as they are.

Decoders are native code and the bytes are untrusted: they run in a process with capped memory, which sees one image
after the other and says of each one word, and why not.
"""

import asyncio
import os
import resource
import struct
import sys
from collections import OrderedDict

from rewardhub.errors import InvalidInput, RewardHubError, Unavailable
from rewardhub.media.decode import decode
from rewardhub.types import Media

LOOK_S = 20.0
"""How long one image may be decoded."""
MEMORY = 2 * 2**30
KNOWN = 4_096
"""Images that are remembered."""
LONGEST = 200
_SIZE = struct.Struct("!I")


class Looker:
    """Starts its process with the first image; belongs to one event loop. Each image is looked at once."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, str] = OrderedDict()
        self._turn = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Of the process; 0 where there is none."""
        return self._process.pid if self._process else 0

    async def check(self, media: Media) -> None:
        """Raises ``InvalidInput``, which names the image, where it cannot be decoded, and ``Unavailable`` where the
        process was lost on it, which is not proof enough.
        """
        reason = self._known.get(media.sha256)
        if reason is None:
            async with self._turn:
                reason = self._known.get(media.sha256)
                if reason is None:
                    reason = await self._looked(media.data or b"")
        self._remember(media.sha256, reason)
        if reason:
            raise InvalidInput(f"media {media.sha256[:12]}: {reason}", field="media")

    async def aclose(self) -> None:
        """Ends the process."""
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                process.kill()
            await process.wait()

    def _remember(self, key: str, reason: str) -> None:
        if key:
            self._known[key] = reason
            self._known.move_to_end(key)
            while len(self._known) > KNOWN:
                self._known.popitem(last=False)

    async def _looked(self, data: bytes) -> str:
        """Why the image cannot be decoded, or ""; the process is ended where its answer is not waited for."""
        try:
            async with asyncio.timeout(LOOK_S):
                if self._process is None:
                    self._process = await _started()
                stdin, stdout = self._process.stdin, self._process.stdout
                assert stdin is not None
                assert stdout is not None
                stdin.write(_SIZE.pack(len(data)) + data)
                await stdin.drain()
                (size,) = _SIZE.unpack(await stdout.readexactly(_SIZE.size))
                return (await stdout.readexactly(min(size, LONGEST))).decode("utf-8", "replace")
        except (OSError, EOFError, TimeoutError):
            await self.aclose()
            raise Unavailable("an image could not be looked at: its process was lost", retry_after_s=1.0) from None
        except BaseException:
            await self.aclose()
            raise


async def _started() -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(sys.executable, "-P", "-m", __name__, stdin=pipe, stdout=pipe)


def _fault(data: bytes) -> str:
    """Why an image cannot be decoded, or "", also where there is no memory for it, which is not its fault."""
    try:
        decode(data)
    except RewardHubError as error:
        return error.message or "it is damaged"
    except MemoryError:
        pass
    return ""


def _serve() -> None:
    """Answers the sizes and bytes of images with the sizes and bytes of reasons, until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    while head := source.read(_SIZE.size):
        reason = _fault(source.read(_SIZE.unpack(head)[0])).encode()[:LONGEST]
        sink.write(_SIZE.pack(len(reason)) + reason)
        sink.flush()


if __name__ == "__main__":
    _serve()
