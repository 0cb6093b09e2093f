"""The REST door's routes."""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

import rewardhub
from rewardhub.errors import ConfigError, RewardHubError, nearest
from rewardhub.pace import apart
from rewardhub.server import documents, guard, intake, replay, replies, trainers
from rewardhub.server.auth import OPEN_ROUTES, SCOPES, Auth
from rewardhub.server.body import decoded, discard_unread, disconnected, read_body, unless_gone
from rewardhub.server.compat import documents as foreign
from rewardhub.server.compat import nemo_gym, openai_chat, openrlhf, slime
from rewardhub.server.exchange import Exchange
from rewardhub.server.inflight import Inflight
from rewardhub.server.large import LARGE_ROWS, is_large_json
from rewardhub.server.metrics import DoorMetrics
from rewardhub.server.partial import at_hand
from rewardhub.server.programs import Programs
from rewardhub.server.quota import Quotas
from rewardhub.server.session import Answer, Session, failure
from rewardhub.server.settings import ServerSettings
from rewardhub.server.surface import ScoringHub
from rewardhub.types import Call, GroupScores

NDJSON = "application/x-ndjson"
QUIET = b" "
"""Sent where there is nothing to say for long; JSON may begin with it, so that no line is empty."""
_REF = "#/components/schemas/{model}"
_PHRASES = {each.value: each.phrase for each in HTTPStatus}
_ERROR = {"application/json": {"schema": {"$ref": _REF.format(model="ErrorReply")}}}
_ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"description": _PHRASES.get(code, "The caller went away"), "content": _ERROR}
    for code in (400, 401, 403, 404, 409, 413, 415, 429, 431, 499, 500, 501, 503, 504, 505)
}
_BODIES: tuple[type[BaseModel], ...] = (
    documents.ScoreBody,
    foreign.RunCodeBody,
    foreign.SubmitBody,
    foreign.BatchBody,
    foreign.ChatBody,
    foreign.OpenrlhfBody,
    foreign.SlimeBody,
    foreign.VerifyBody,
)
_REPLIES: tuple[type[BaseModel], ...] = (documents.ScoreLine, documents.ErrorReply)


class RestDoor:
    """The routes over one hub; ``leaving`` makes the hub unready for who asks."""

    def __init__(
        self,
        hub: ScoringHub,
        auth: Auth,
        settings: ServerSettings,
        metrics: DoorMetrics,
        quotas: Quotas,
        exchange: Exchange,
    ) -> None:
        self._hub = hub
        self._auth = auth
        self._limits = settings.limits
        self._inflight = Inflight(self._limits.concurrency, self._limits.inflight_bytes)
        self._metrics = metrics
        self._programs = Programs(hub.programs, quotas)
        self._replays = replay.Replays()
        self.leaving = False
        self._exchange = exchange
        self._started = time.time()

    def app(self) -> ASGIApp:
        """The application behind its guard; raises ``ConfigError`` for a route without a scope."""
        app = FastAPI(
            title="RewardHub",
            version=rewardhub.__version__,
            summary="Every reward an RL run needs, behind one call.",
            redoc_url=None,
            swagger_ui_oauth2_redirect_url=None,
            redirect_slashes=False,  # to where the Host header says, whose scheme may be that of a proxy
        )
        routes = self._routes()
        for path, method, endpoint, extra in routes:
            responses = {**_ERRORS, **extra.pop("responses", {})}
            app.add_api_route(path, endpoint, methods=[method], responses=responses, **extra)
        app.add_exception_handler(HTTPException, _route_error)
        app.add_exception_handler(Exception, _unknown_error)
        app.openapi = lambda: _openapi(app, self._auth.keyless)  # type: ignore[method-assign]
        check_scopes(app)
        direct = {(method, path): endpoint for path, method, endpoint, _ in routes}
        return guard.Guard(app, direct, self._auth, self._inflight, self._metrics)

    async def finish_programs(self) -> None:
        """Waits for the programs in hand."""
        await self._programs.finish()

    def _routes(self) -> list[tuple[str, str, guard.Endpoint, dict[str, Any]]]:
        picture = _body("application/octet-stream", {"type": "string", "format": "binary"})
        line = {"type": "object", **_ref("ScoreLine"), "description": "a line per group, as each is ready"}
        metrics = _text("text/plain", {"type": "string", "description": "the text format of Prometheus"})
        open_to_all: dict[str, Any] = {"openapi_extra": {"security": []}}
        readiness = {200: {"model": documents.ReadyReply}, 503: {"model": documents.ReadyReply | documents.ErrorReply}}
        return [
            ("/v1/score", "POST", self.score, _json("ScoreBody") | _ok(documents.ScoreReply)),
            ("/v1/score/stream", "POST", self.score_stream, _json("ScoreBody") | _text(NDJSON, line)),
            ("/v1/media", "PUT", self.put_media, {"openapi_extra": picture, **_ok(documents.MediaReply)}),
            ("/v1/scorers", "GET", self.scorers, _ok(documents.ScorersReply)),
            ("/run_code", "POST", self.run_code, _json("RunCodeBody") | _ok(foreign.RunCodeReply)),
            ("/submit", "POST", self.submit, _json("SubmitBody") | _ok(foreign.SubmitReply)),
            ("/submit_batch", "POST", self.submit_batch, _json("BatchBody") | _ok(foreign.BatchReply)),
            ("/v1/ping", "GET", self.ping, _ok(str)),
            ("/v1/reload", "POST", self.reload, _ok(documents.ReloadReply)),
            ("/v1/chat/completions", "POST", self.chat, _json("ChatBody") | _ok(foreign.ChatReply)),
            ("/v1/models", "GET", self.models, _ok(foreign.ModelsReply)),
            ("/openrlhf/get_reward", "POST", self.openrlhf, _of_recipe("OpenrlhfBody") | _ok(foreign.OpenrlhfReply)),
            ("/slime/reward", "POST", self.slime, _of_recipe("SlimeBody") | _ok(float)),
            ("/verify", "POST", self.verify, _of_recipe("VerifyBody", False) | _ok(foreign.VerifyReply)),
            ("/seed_session", "POST", self.seed_session, _ok(dict[str, Any])),
            ("/healthz", "GET", self.healthz, open_to_all | _ok(documents.LifeReply)),
            ("/readyz", "GET", self.readyz, open_to_all | {"responses": readiness}),
            ("/metrics", "GET", self.metrics, metrics),
        ]

    async def score(self, request: Request) -> Response:
        """Scores groups; answers 200 in request order, even if every score failed."""
        tenant = await self._let_in(request)
        body = await self._body(request, self._limits.body_bytes, "body")
        call, items = await self._items(body)
        work = partial(intake.score, self._hub, items, call, tenant)
        key = request.headers.get(replay.HEADER)
        once = work() if key is None else self._replays.once(tenant, key, body, work, request.scope["state"]["share"])
        answers = await unless_gone(request, once)
        large = sum(map(len, answers)) > LARGE_ROWS
        return await apart(large, partial(replies.scores_reply, answers, details=call.details))

    async def score_stream(self, request: Request) -> Response:
        """Scores groups; answers one score line per group as each is ready, in any order. White space comes before the
        next line where none is ready for long.
        """
        tenant = await self._let_in(request)
        call, items = await self._read(request)
        answers = self._counted(_lines(request, Session(self._hub, tenant), items, call))
        return StreamingResponse(answers, media_type=NDJSON)

    async def _counted(self, answers: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
        with self._metrics.streams.track_inprogress():
            async with contextlib.aclosing(answers):
                async for each in answers:
                    yield each

    async def put_media(self, request: Request) -> Response:
        """Stores a PNG, JPEG or WebP image under the SHA-256 of its bytes."""
        data = await self._body(request, self._hub.media.limits.item_bytes, "media")
        media = await asyncio.to_thread(self._hub.media.put, data, guard.tenant_of(request.scope))
        return replies.json_reply({"sha256": media.sha256, "bytes": len(data)})

    async def scorers(self, _: Request) -> Response:
        """The scorers and recipes that a call may name."""
        return replies.json_reply(
            {"scorers": await asyncio.to_thread(self._hub.scorers), "version": rewardhub.__version__}
        )

    async def run_code(self, request: Request) -> Response:
        """SandboxFusion's ``/run_code``: runs a program in the sandbox; 200 whatever the program does."""
        return replies.json_reply(await self._programs.run_code(*await self._program(request)))

    async def submit(self, request: Request) -> Response:
        """SandboxFusion's ``/submit`` with the test cases in the request."""
        return replies.json_reply(await self._programs.submit(*await self._program(request)))

    async def submit_batch(self, request: Request) -> Response:
        """Many submissions at once, answered in their order."""
        return replies.json_reply(await self._programs.submit_batch(*await self._program(request)))

    async def ping(self, _: Request) -> Response:
        """SandboxFusion's liveness route."""
        return replies.json_reply("pong")

    async def reload(self, _: Request) -> Response:
        """Reads the operator's plugins, cards, recipes, keys, quotas and certificates again; exchanges what changed."""
        return replies.json_reply(await self._exchange())

    async def chat(self, request: Request) -> Response:
        """OpenAI's chat completions, by the hub's own generative models."""
        tenant = await self._let_in(request)
        body = await self._body(request, self._limits.body_bytes, "body")
        group, call = await apart(is_large_json(body), lambda: openai_chat.question(decoded(body)))
        group = await at_hand(self._hub.media, group, tenant, math.inf)
        (scores,) = await unless_gone(request, self._hub.score([group], call, tenant=tenant))
        return replies.json_reply(openai_chat.completion(scores[0], call.recipe))

    async def models(self, _: Request) -> Response:
        """The hub's own generative models, which ``/v1/chat/completions`` may name."""
        return replies.json_reply(openai_chat.models(self._hub.writers(), self._started))

    async def openrlhf(self, request: Request) -> Response:
        """OpenRLHF's remote reward model; an error where a score has no value."""
        return await self._translated(request, openrlhf)

    async def slime(self, request: Request) -> Response:
        """The remote reward model of slime: a bare number; an error where the score has no value."""
        return await self._translated(request, slime)

    async def verify(self, request: Request) -> Response:
        """A resource server of NeMo Gym: the request with its reward; an error where the score has no value."""
        return await self._translated(request, nemo_gym)

    async def seed_session(self, _: Request) -> Response:
        """NeMo Gym's beginning of an episode, of which nothing is kept."""
        return replies.json_reply({})

    async def _translated(self, request: Request, trainer: trainers.Translation) -> Response:
        tenant = await self._let_in(request)
        body = await self._body(request, self._limits.body_bytes, "body")
        reading = partial(trainers.read, body, request.query_params, trainer, self._limits)
        asked, call, items = await apart(is_large_json(body), reading)
        answers = await unless_gone(request, intake.score(self._hub, items, call, tenant))
        return replies.json_reply(trainer.reply(answers, asked))

    async def healthz(self, _: Request) -> Response:
        """The process lives."""
        return replies.json_reply({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        """200 while the hub takes work, 503 while it starts, drains or lacks a worker."""
        reasons = ["the hub is draining"] if self.leaving else self._hub.ready()
        known = request.scope["state"]["caller"] is not None
        shown = {"ready": not reasons, "reasons": reasons if known else []}
        if known:
            shown["isolation_level"] = await self._programs.isolation_level()
        return replies.json_reply(shown, 503 if reasons else 200)

    async def metrics(self, _: Request) -> Response:
        """Metrics in the text format of Prometheus."""
        text = self._hub.metrics_text() + self._metrics.text(self._hub.media)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _let_in(self, request: Request) -> str:
        """The tenant; raises, before the body is read, where its quotas or the hub have no room for it."""
        tenant = guard.tenant_of(request.scope)
        try:
            self._hub.admit(tenant)
        except RewardHubError:
            await discard_unread(request, self._limits.body_bytes)
            raise
        return tenant

    async def _body(self, request: Request, limit: int, what: str) -> bytes:
        state = request.scope["state"]
        upload = state["held"].enter_context(state["share"].upload(limit, what))
        return await read_body(request, upload, self._limits.body_s)

    async def _program(self, request: Request) -> tuple[bytes, str]:
        """The body and the tenant, whose quotas are asked before."""
        tenant = await self._let_in(request)
        return await self._body(request, self._limits.body_bytes, "body"), tenant

    async def _read(self, request: Request) -> tuple[Call, list[intake.Item]]:
        return await self._items(await self._body(request, self._limits.body_bytes, "body"))

    async def _items(self, body: bytes) -> tuple[Call, list[intake.Item]]:
        return await apart(is_large_json(body), partial(intake.from_json, body, self._limits))


async def _lines(request: Request, session: Session, items: Sequence[intake.Item], call: Call) -> AsyncGenerator[bytes]:
    feeder = asyncio.create_task(_feed(session, items, call))
    watcher = asyncio.create_task(_stop_when_gone(request, session, feeder))
    try:
        async for batch in session.batches():
            answers = [each for each in batch if isinstance(each, Answer)]
            lines = [replies.score_line(each.scores, details=each.details) + b"\n" for each in answers]
            yield b"".join(lines) or QUIET
        await feeder
    finally:
        feeder.cancel()
        watcher.cancel()
        await asyncio.gather(session.aclose(), feeder, watcher, return_exceptions=True)


async def _feed(session: Session, items: Sequence[intake.Item], call: Call) -> None:
    try:
        for item in items:
            if isinstance(item, GroupScores):
                session.answer(Answer(item, call.details))
                continue
            try:
                await session.score(item, call)
            except Exception as error:
                session.answer(failure(item.id, intake.rows_of(item), error))
    finally:
        session.finish()


async def _stop_when_gone(request: Request, session: Session, feeder: asyncio.Task[None]) -> None:
    await disconnected(request)
    feeder.cancel()
    await session.aclose()


def check_scopes(app: FastAPI) -> None:
    """Raises ``ConfigError`` for a route that no scope is stated for."""
    for route in app.routes:
        path = getattr(route, "path", repr(route))
        if path not in SCOPES and path not in OPEN_ROUTES:
            raise ConfigError(f"the route {path} has no scope")


async def _unknown_error(request: Request, error: Exception) -> Response:
    return replies.error_reply(guard.internal(request.scope, error))


async def _route_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    method, path = request.method, request.url.path
    if error.status_code == 404:
        known = [route.path for route in request.app.routes if isinstance(route, Route)]
        reply = replies.route_error_reply(404, "not_found", f"no route {path!r}{nearest(path, known)}")
    else:
        reply = replies.route_error_reply(error.status_code, "method_not_allowed", f"no {method} on {path!r}")
    reply.headers.update(error.headers or {})
    if reply.headers.get("allow") == "GET":
        reply.headers["allow"] = "GET, HEAD"
    return reply


def _openapi(app: FastAPI, keyless: bool) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = FastAPI.openapi(app)
        shown: list[tuple[type[BaseModel], Literal["validation", "serialization"]]] = []
        shown += [(each, "validation") for each in _BODIES]
        shown += [(each, "serialization") for each in _REPLIES]
        _, bodies = models_json_schema(shown, ref_template=_REF)
        components = schema.setdefault("components", {})
        components["schemas"] = {**bodies["$defs"], **components.get("schemas", {})}
        components["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
        }
        app.openapi_schema = schema
    return {**app.openapi_schema, "security": [] if keyless else [{"bearer": []}, {"key": []}]}


def _ref(model: str) -> dict[str, str]:
    return {"$ref": _REF.format(model=model)}


def _body(media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {media_type: {"schema": schema}}}}


def _json(model: str) -> dict[str, Any]:
    return {"openapi_extra": _body("application/json", _ref(model))}


def _of_recipe(model: str, required: bool = True) -> dict[str, Any]:
    recipe = {"name": "recipe", "in": "query", "required": required, "schema": {"type": "string"}}
    return {"openapi_extra": {"parameters": [recipe], **_body("application/json", _ref(model))}}


def _ok(model: type) -> dict[str, Any]:
    return {"responses": {200: {"model": model}}}


def _text(media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A body that is no JSON, which FastAPI would take it for."""
    shown = {200: {"content": {media_type: {"schema": schema}}}}
    return {"responses": shown, "response_class": type("_Text", (Response,), {"media_type": media_type})}
