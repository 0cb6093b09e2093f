"""TLS on both doors."""

import shutil
import socket
import ssl
import subprocess
import threading

import grpc
import pytest

from rewardhub.client import Client
from rewardhub.errors import HubUnreachable
from rewardhub.v1 import reward_service_pb2 as service
from rewardhub.v1.reward_service_pb2_grpc import RewardServiceServicer, add_RewardServiceServicer_to_server


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A key and a certificate for 127.0.0.1, signed by itself."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl is not installed: no certificate can be made")
    folder = tmp_path_factory.mktemp("tls")
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    subprocess.run(
        [program, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names]
        + ["-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True,
        capture_output=True,
    )
    return folder / "key.pem", folder / "cert.pem"


class Listing(RewardServiceServicer):
    def ListScorers(self, request, context):
        return service.ListScorersResponse(scorers=[service.Scorer(name="math")])


@pytest.fixture
def rpc_address(pair):
    """A gRPC server with that certificate."""
    from concurrent.futures import ThreadPoolExecutor

    key, cert = pair
    server = grpc.server(ThreadPoolExecutor(2))
    add_RewardServiceServicer_to_server(Listing(), server)
    credentials = grpc.ssl_server_credentials([(key.read_bytes(), cert.read_bytes())])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield f"grpcs://127.0.0.1:{port}"
    server.stop(0).wait()


@pytest.fixture
def rest_address(pair):
    """An HTTPS server that answers one request after another with a list of scorers."""
    key, cert = pair
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(connection, server_side=True) as secure:
                    secure.recv(65536)
                    body = b'{"scorers": [{"name": "math"}]}'
                    secure.sendall(
                        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
                    )
            except OSError:
                connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


@pytest.mark.parametrize("door", ["rest_address", "rpc_address"])
def test_a_certificate_is_trusted_by_file(request, pair, monkeypatch, door):
    """``SSL_CERT_FILE`` names the certificates that both doors trust."""
    monkeypatch.setenv("SSL_CERT_FILE", str(pair[1]))
    with Client(request.getfixturevalue(door)) as client:
        assert client.scorers()[0]["name"] == "math"


@pytest.mark.parametrize("door", ["rest_address", "rpc_address"])
def test_a_stranger_is_not_trusted(request, monkeypatch, door):
    """Without it a certificate that nobody known has signed is refused."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with Client(request.getfixturevalue(door), retries=0) as client, pytest.raises(HubUnreachable):
        client.scorers()
