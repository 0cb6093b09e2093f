"""The client of a hub: :class:`Client` for threads, :class:`AsyncClient` for asyncio.

Both speak REST (``http://host:port``) or gRPC (``grpc://host:port``) and implement
:class:`rewardhub.types.Rewards` and :class:`rewardhub.types.AsyncRewards`.
"""

import os

# gRPC reads this when it is first imported: without it a forked child hangs or crashes in gRPC.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "1")

from rewardhub.client.aio import AsyncClient, AsyncOpenGroup
from rewardhub.client.failure import OnFailure, Stats
from rewardhub.client.group_file import read_group_file
from rewardhub.client.sync import Client, OpenGroup

__all__ = ["AsyncClient", "AsyncOpenGroup", "Client", "OnFailure", "OpenGroup", "Stats", "read_group_file"]
