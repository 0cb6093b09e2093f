"""An open group: its responses come one by one, its scores come back as they are ready."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import grpc

from rewardhub.client.failure import Stats
from rewardhub.client.media import MediaBook
from rewardhub.client.refusal import ConnectionLost, from_rpc
from rewardhub.client.rpc import RpcDoor
from rewardhub.client.session import merged
from rewardhub.errors import DeadlineExceeded, RewardHubError
from rewardhub.types import Call, Group, GroupScores, Response
from rewardhub.wire.proto import response_to_proto
