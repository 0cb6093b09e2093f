"""The REST door: routes, and the guard that every request passes."""

import asyncio
import ipaddress
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import rewardhub
from rewardhub.errors import ConfigError, Forbidden, InternalError, RewardHubError, nearest
from rewardhub.server import documents, intake, logs, replies
from rewardhub.server.auth import OPEN_ROUTES, SCOPES, Auth, is_loopback
from rewardhub.server.body import disconnected, read_body, unless_gone
from rewardhub.server.metrics import DoorMetrics
from rewardhub.server.session import Answer, Session
from rewardhub.server.settings import ServerSettings
from rewardhub.server.surface import ScoringHub
from rewardhub.types import Call, Group
