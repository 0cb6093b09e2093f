"""Keys and certificates are exchanged by a reload: nobody restarts a hub to shut out who has a key that leaked."""

import hashlib
import ssl
import subprocess

import grpc
import httpx

from rewardhub.v1 import reward_service_pb2 as pb
from rewardhub.v1 import reward_service_pb2_grpc as stubs


def keys(*names: str) -> str:
    """A configuration with these keys and one of the admin's."""
    tables = [(name, "score") for name in names] + [("root", "admin")]
    return "".join(
        f'[[server.keys]]\nkey_sha256 = "{hashlib.sha256(name.encode()).hexdigest()}"\ntenant = "{name}"\n'
        f'scopes = ["{scope}"]\n'
        for name, scope in tables
    )


def test_a_reload_takes_the_keys_that_the_file_names(serve, tmp_path):
    """T65: a revoked key is refused at both doors, a new one passes; a file that cannot be used changes nothing."""
    config = tmp_path / "hub.toml"
    config.write_text(keys("old", "kept"))
    with serve("--config", str(config)) as hub, grpc.insecure_channel(hub.grpc) as channel:
        stub = stubs.RewardServiceStub(channel)

        def passes(name: str) -> bool:
            by_rest = httpx.get(f"{hub.url}/v1/scorers", headers={"x-api-key": name}, timeout=60).status_code
            try:
                stub.Score(pb.ScoreRequest(), metadata=[("x-api-key", name)])
                by_grpc = True
            except grpc.RpcError as error:
                assert error.code() is grpc.StatusCode.UNAUTHENTICATED
                by_grpc = False
            assert by_grpc is (by_rest == 200)
            return by_grpc

        def reload() -> int:
            return httpx.post(f"{hub.url}/v1/reload", headers={"x-api-key": "root"}, timeout=60).status_code

        assert [passes(name) for name in ("old", "kept", "new")] == [True, True, False]
        config.write_text(keys("new", "kept") + "[server]\nkeyz = 1")
        assert reload() == 400
        assert [passes(name) for name in ("old", "kept", "new")] == [True, True, False]
        config.write_text(keys("new", "kept"))
        assert reload() == 200
        assert [passes(name) for name in ("old", "kept", "new")] == [False, True, True]


def test_a_reload_takes_certificates_and_names_the_rest(serve, tmp_path):
    """What connects after it is shown the new certificate, by the loop that serves too; what waits for a restart is said."""

    def certify() -> str:
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=hub")
        command = ["openssl", "req", "-x509", *curve, "-keyout", "hub.key", "-out", "hub.pem"]
        subprocess.run(
            [*command, "-addext", "subjectAltName=IP:127.0.0.1"], cwd=tmp_path, check=True, capture_output=True
        )
        return (tmp_path / "hub.pem").read_text()

    first = certify()
    config = tmp_path / "hub.toml"
    text = keys() + '[server.tls]\ncert = "hub.pem"\nkey = "hub.key"\n'
    config.write_text(text)
    with serve("--config", str(config)) as hub:
        place = ("127.0.0.1", int(hub.url.rsplit(":", 1)[1]))
        trusted = ssl.create_default_context(cadata=first)
        with httpx.Client(verify=trusted, base_url=hub.url, headers={"x-api-key": "root"}, timeout=60) as http:
            assert ssl.get_server_certificate(place) == first
            second = certify()
            config.write_text("deadline_ms = 5\njudges = []\nworkers = 1\n" + text + "[server.limits]\ngroups = 7\n")
            told = http.post("/v1/reload")
            assert told.json()["restart"] == ["deadline_ms", "server.limits"], told.text
            assert ssl.get_server_certificate(place) == second
            assert http.get("/healthz").status_code == 200
        with grpc.secure_channel(hub.grpc, grpc.ssl_channel_credentials(second.encode())) as channel:
            listed = stubs.RewardServiceStub(channel).ListScorers(
                pb.ListScorersRequest(), metadata=[("x-api-key", "root")]
            )
            assert listed.scorers
