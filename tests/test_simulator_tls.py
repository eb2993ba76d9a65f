import asyncio
import contextlib
import shutil
import ssl
import stat
from pathlib import Path

import pytest

from proxy.simulator import tls
from proxy.simulator.server import Simulator
from tests.harness import patiently

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="the openssl program is not there")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "tls"
    tls.prepare(folder)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("host", tls.HOSTS)
async def test_who_trusts_the_authority_can_call_by_name_and_address(folder: Path, host: str) -> None:
    simulator = Simulator()
    port = await simulator.start("127.0.0.1", 0, tls=tls.prepare(folder))
    trusting = ssl.create_default_context(cafile=folder / tls.AUTHORITY)
    trusting.set_alpn_protocols(["h2", "http/1.1"])
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting, server_hostname=host)
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        writer.write(b"GET /-/health HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")
        assert (await patiently(reader.read())).startswith(b"HTTP/1.1 204 ")
        writer.close()
        await patiently(writer.wait_closed())
    finally:
        await simulator.stop()


async def test_a_reset_is_one_behind_tls_too(folder: Path) -> None:
    simulator = Simulator()
    port = await simulator.start("127.0.0.1", 0, tls=tls.prepare(folder))
    trusting = ssl.create_default_context(cafile=folder / tls.AUTHORITY)
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
        writer.write(
            b"GET /v1/integration/campaigns HTTP/1.1\r\nHost: t\r\nAuthorization: ApiKey-v1 simulator\r\n"
            b"Simulator-Fault: reset-after-read\r\n\r\n"
        )
        with pytest.raises(ConnectionResetError):
            await patiently(reader.read())
        writer.close()
        with contextlib.suppress(ConnectionResetError):
            await patiently(writer.wait_closed())
    finally:
        await simulator.stop()


async def test_nobody_else_is_vouched_for(folder: Path) -> None:
    simulator = Simulator()
    port = await simulator.start("127.0.0.1", 0, tls=tls.prepare(folder))
    trusting = ssl.create_default_context(cafile=folder / tls.AUTHORITY)
    try:
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection("127.0.0.1", port, ssl=trusting, server_hostname="mycompany.talon.one")
    finally:
        await simulator.stop()


def test_what_is_there_is_used_again(folder: Path) -> None:
    before = files(folder)

    tls.prepare(folder)

    assert files(folder) == before
    assert sorted(before) == ["ca.pem", "server.key", "server.pem"], "the authority's key is not kept"
    assert stat.S_IMODE((folder / tls.KEY).stat().st_mode) == 0o600


def test_a_further_host_makes_all_anew(tmp_path: Path) -> None:
    tls.prepare(tmp_path)
    before = files(tmp_path)

    tls.prepare(tmp_path, (*tls.HOSTS, "simulator", "10.0.0.7"))
    after = files(tmp_path)
    assert after["ca.pem"] != before["ca.pem"]

    tls.prepare(tmp_path, (*tls.HOSTS, "simulator"))
    assert files(tmp_path) == after


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(tls.TlsError, match="file"):
        tls.prepare(tmp_path / "file" / "folder")


def test_without_the_program_it_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(tls.TlsError, match="needs openssl"):
        tls.prepare(tmp_path / "tls")


def test_what_the_program_refuses_is_told(tmp_path: Path) -> None:
    with pytest.raises(tls.TlsError, match="openssl failed"):
        tls.prepare(tmp_path / "tls", ("-", "a,b"))
