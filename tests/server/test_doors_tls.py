"""TLS at both doors: certificates that can be served with, and their exchange under load."""

import asyncio
import os
import ssl
import subprocess
from contextlib import asynccontextmanager

import grpc
import httpx
import pytest

from rewardhub.errors import ConfigError
from rewardhub.server.serving import serve
from rewardhub.server.settings import Limits, ServerSettings, Tls
from rewardhub.v1 import reward_service_pb2 as pb
from rewardhub.v1 import reward_service_pb2_grpc

CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
CA = """
[ca]
default_ca = d
[d]
database = index.txt
rand_serial = yes
new_certs_dir = .
default_md = sha256
policy = p
[p]
commonName = supplied
"""


def openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """Two self-made authorities, each with the certificates of a server and of a client."""
    folder = tmp_path_factory.mktemp("tls")
    for number in ("", "2"):
        ca = f"ca{number}"
        openssl(
            folder,
            "req",
            "-x509",
            *CURVE,
            "-days",
            "2",
            "-keyout",
            f"{ca}.key",
            "-out",
            f"{ca}.pem",
            "-subj",
            f"/CN={ca}",
        )
        for name in (f"server{number}", f"client{number}"):
            openssl(
                folder, "req", "-x509", *CURVE, "-days", "2", "-CA", f"{ca}.pem", "-CAkey", f"{ca}.key",
                "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}",
                "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE",
            )  # fmt: skip
    openssl(folder, "pkey", "-in", "server.key", "-aes256", "-passout", "pass:x", "-out", "locked.key")
    (folder / "empty.pem").touch()
    (folder / "index.txt").touch()
    (folder / "ca.cnf").write_text(CA)
    openssl(folder, "req", "-new", *CURVE, "-keyout", "dated.key", "-out", "dated.csr", "-subj", "/CN=dated")
    for name, year in (("expired", 2001), ("early", 2091)):
        openssl(
            folder, "ca", "-batch", "-config", "ca.cnf", "-cert", "ca.pem", "-keyfile", "ca.key", "-in", "dated.csr",
            "-out", f"{name}.pem", "-startdate", f"{year}0101000000Z", "-enddate", f"{year + 1}0101000000Z", "-notext",
        )  # fmt: skip
        (folder / "index.txt").write_text("")
    return folder


@pytest.mark.parametrize(
    ("files", "named"),
    [
        (
            ("server.pem", "client.key", None),
            "cert: .*server.pem and server.tls.key: .*client.key do not belong together",
        ),
        (("nowhere.pem", "server.key", None), "cert: .*nowhere.pem cannot be read: No such file"),
        ((".", "server.key", None), "cert: .* cannot be read: Is a directory"),
        (("server.key", "server.key", None), "cert: .*server.key holds no certificate"),
        (("server.pem", "server.pem", None), "key: .*server.pem holds no private key"),
        (("server.pem", "server.key", "empty.pem"), "client_ca: .*empty.pem holds no certificate"),
        (("server.pem", "server.key", "server.key"), "client_ca: .*server.key holds no certificate"),
        (("server.pem", "locked.key", None), "key: .*locked.key is encrypted"),
        (("expired.pem", "dated.key", None), "cert: .*expired.pem has expired"),
        (("early.pem", "dated.key", None), "cert: .*early.pem is not valid yet"),
    ],
)
async def test_unusable_certificates_do_not_start(fake_hub, certificates, files, named):
    """The file at fault is named, with its field and what was expected, whichever door would have met it first."""
    cert, key, client_ca = (name and certificates / name for name in files)
    settings = ServerSettings(tls=Tls(cert=cert, key=key, client_ca=client_ca))
    with pytest.raises(ConfigError, match=f"server.tls.{named}"):
        await serve(fake_hub(), "127.0.0.1:0", "127.0.0.1:0", settings=settings)


async def test_tls_and_client_certificates(service, certificates):
    """Both doors speak TLS; with client_ca a caller without a certificate is turned away."""
    tls = Tls(cert=certificates / "server.pem", key=certificates / "server.key", client_ca=certificates / "ca.pem")
    ca = (certificates / "ca.pem").read_bytes()
    pair = [(certificates / f"client.{kind}").read_bytes() for kind in ("key", "pem")]
    async with service(ServerSettings(tls=tls)) as running:
        assert running.url.startswith("https://")
        context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
        with pytest.raises(httpx.HTTPError):
            async with httpx.AsyncClient(verify=context) as http:
                await http.get(f"{running.url}/healthz")
        context.load_cert_chain(certificates / "client.pem", certificates / "client.key")
        async with httpx.AsyncClient(verify=context) as http:
            assert (await http.get(f"{running.url}/healthz")).status_code == 200
        for given, code in ((pair, grpc.StatusCode.OK), ([None, None], grpc.StatusCode.UNAVAILABLE)):
            credentials = grpc.ssl_channel_credentials(ca, *given)
            async with grpc.aio.secure_channel(running.grpc_addr, credentials) as channel:
                call = reward_service_pb2_grpc.RewardServiceStub(channel).ListScorers(
                    pb.ListScorersRequest(), timeout=3
                )
                assert await call.code() == code


@pytest.fixture
def rotated(certificates, tmp_path):
    """Settings whose files are ``cert.pem``, ``key.pem`` and ``ca.pem``, and what puts those of others in place."""

    def put(number="", ca=""):
        for name, source in (
            ("cert.pem", f"server{number}.pem"),
            ("key.pem", f"server{number}.key"),
            ("ca.pem", f"ca{ca}.pem"),
        ):
            (tmp_path / name).write_bytes((certificates / source).read_bytes())

    put()
    return ServerSettings(
        tls=Tls(cert=tmp_path / "cert.pem", key=tmp_path / "key.pem", client_ca=tmp_path / "ca.pem")
    ), put


@pytest.fixture
def caller(certificates):
    """A client of both doors that trusts the authority of ``server`` and shows the certificate of ``client``."""

    @asynccontextmanager
    async def opened(running, server="", client=""):
        context = ssl.create_default_context(cafile=str(certificates / f"ca{server}.pem"))
        context.load_cert_chain(certificates / f"client{client}.pem", certificates / f"client{client}.key")
        root = (certificates / f"ca{server}.pem").read_bytes()
        pair = [(certificates / f"client{client}.{kind}").read_bytes() for kind in ("key", "pem")]
        options = [("grpc.use_local_subchannel_pool", 1)]
        credentials = grpc.ssl_channel_credentials(root, *pair)
        async with (
            httpx.AsyncClient(verify=context, base_url=running.url, timeout=20) as http,
            grpc.aio.secure_channel(running.grpc_addr, credentials, options) as channel,
        ):
            stub = reward_service_pb2_grpc.RewardServiceStub(channel)

            async def passes():
                try:
                    by_rest = (await http.get("/healthz")).status_code == 200
                except httpx.HTTPError:
                    by_rest = False
                call = stub.ListScorers(pb.ListScorersRequest(), timeout=5)
                assert by_rest == (await call.code() == grpc.StatusCode.OK)
                return by_rest

            yield passes, http

    return opened


async def test_rotated_certificates_are_shown_after_a_reload(service, rotated, caller):
    """Whoever connects next gets the new ones at both doors; connections go on; the old authority counts no more."""
    settings, put = rotated
    async with service(settings) as running, caller(running) as (old, http):
        running.doors.reread(lambda: settings)
        assert await old()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            put("2", "2")
            assert (await http.post("/v1/reload")).json()["restart"] == []
            assert await old()
        async with (
            caller(running, "2", "2") as (new, _),
            caller(running) as (strange, _),
            caller(running, "2") as (unsigned, _),
        ):
            assert [await new(), await strange(), await unsigned()] == [True, False, False]
            assert await old()
        await asyncio.sleep(0.2)
        assert len(os.listdir("/proc/self/fd")) <= before + 2
        async with caller(running, "2", "2") as (_, again):
            put()
            assert (await again.post("/v1/reload")).status_code == 200
        async with caller(running) as (first, _):
            assert await first()


async def test_certificates_that_cannot_be_used_are_not_taken(service, rotated, caller, certificates):
    """A reload that finds a key of another certificate says so, and what was shown before is shown on."""
    settings, put = rotated
    async with service(settings) as running, caller(running) as (_, http):
        running.doors.reread(lambda: settings)
        settings.tls.cert.write_bytes((certificates / "server2.pem").read_bytes())
        refused = await http.post("/v1/reload")
        assert (refused.status_code, refused.json()["error"]["field"]) == (400, "server.tls.cert")
        async with caller(running) as (passes, _):
            assert await passes()


async def test_what_a_reload_cannot_change_is_named(service, rotated, caller):
    """TLS or none, certificates of callers or none, and limits of the doors hold until a restart."""
    settings, put = rotated
    asking_none = ServerSettings(tls=Tls(cert=settings.tls.cert, key=settings.tls.key), limits=Limits(groups=7))
    async with service(settings) as running, caller(running) as (_, http):
        for now, named in (
            (asking_none, ["server.limits", "server.tls"]),
            (ServerSettings(), ["server.tls"]),
            (settings, []),
        ):
            running.doors.reread(lambda now=now: now)
            assert (await http.post("/v1/reload")).json()["restart"] == named
        async with caller(running) as (passes, _):
            assert await passes()


async def test_calls_in_hand_outlast_an_exchange(service, rotated, caller):
    """R9: what runs while certificates are exchanged, and what connects meanwhile, is answered."""
    settings, put = rotated
    async with service(settings) as running, caller(running) as (_, http), caller(running) as (_, other):
        running.doors.reread(lambda: settings)
        body = {"recipe": "slow", "groups": [{"id": "g", "responses": ["r"]}]}
        held = [asyncio.create_task(other.post("/v1/score", json=body)) for _ in range(20)]
        while not held[-1].done():
            assert (await http.post("/v1/reload")).status_code == 200
        assert {(await each).status_code for each in held} == {200}
