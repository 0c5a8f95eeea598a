"""Stand-ins for the benchmark program, and an sshd on loopback."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

LOGS = Path(__file__).parent / "logs"
SBIN = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/sbin"])


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "small network.tflite"
    path.write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(5000))
    return path


@pytest.fixture
def scratch(tmp_path):
    path = tmp_path / "scratch"
    path.mkdir()
    return path


@pytest.fixture
def program(tmp_path):
    """Writes a stand-in that runs a shell script, with LOG for the directory of recorded logs."""

    def write(body):
        path = tmp_path / "lce_benchmark_model"
        path.write_text(f"#!/bin/sh\nLOG='{LOGS}'\n{body}\n")
        return path

    return write


@pytest.fixture(scope="session")
def ssh_config(tmp_path_factory):
    """Settings of ssh for "board", "stranger" (unknown host key), "changed" (another one), "locked" (key refused)."""
    missing = [name for name in ("sshd", "ssh", "ssh-keygen") if shutil.which(name, path=SBIN) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)} on this machine: install openssh-server")
    folder = tmp_path_factory.mktemp("ssh")
    for name in ("host", "user", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized_keys")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized_keys\n"
        f"PidFile {folder}/pid\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n"
        # No start-up files of the user's shell: some take seconds, and wait for each other's locks.
        f"KbdInteractiveAuthentication no\nMaxStartups 100\nSetEnv HOME={folder}\n"
    )
    host = " ".join((folder / "host.pub").read_text().split()[:2])
    other = " ".join((folder / "other.pub").read_text().split()[:2])
    (folder / "known").write_text(f"[127.0.0.1]:{port} {host}\n")
    (folder / "unknown").write_text("")
    (folder / "changed").write_text(f"[127.0.0.1]:{port} {other}\n")
    common = f"HostName 127.0.0.1\nPort {port}\nUser {getpass.getuser()}\nIdentitiesOnly yes\nIdentityAgent none\n"
    common += "GlobalKnownHostsFile /dev/null\nUpdateHostKeys no\nKexAlgorithms curve25519-sha256\n"
    hosts = [("board", "user", "known"), ("stranger", "user", "unknown"), ("changed", "user", "changed")]
    hosts.append(("locked", "other", "known"))
    (folder / "config").write_text(
        "".join(
            f"Host {name}\n{common}IdentityFile {folder}/{key}\nUserKnownHostsFile {folder}/{known}\n"
            for name, key, known in hosts
        )
    )
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", exist_ok=True)
    log = open(folder / "log", "wb")  # noqa: SIM115  (as long as the server)
    server = subprocess.Popen(
        [shutil.which("sshd", path=SBIN), "-D", "-e", "-f", str(folder / "sshd_config")], stdout=log, stderr=log
    )
    try:
        for _ in range(100):
            if server.poll() is not None:
                pytest.skip(f"sshd does not start here: {(folder / 'log').read_text().strip()}")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield folder / "config"
    finally:
        server.terminate()
        server.wait(10)
        log.close()
