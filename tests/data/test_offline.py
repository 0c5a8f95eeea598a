"""No network: neither asked for nor waited for."""

import os
import subprocess
import sys
import textwrap

import tfbnas  # noqa: F401
from tfbnas.data.offline import tfds


def test_public_bucket_is_never_asked():
    from tensorflow_datasets.core.utils import gcs_utils

    tfds()
    assert gcs_utils._is_gcs_disabled
    assert not gcs_utils.is_dataset_on_gcs("mnist")


def test_no_connection_no_noise_and_no_download(tmp_path):
    """A process that may not connect or look up a name loads images, and says what to do about missing ones."""
    program = """
        import socket

        def refuse(*arguments, **keywords):
            raise AssertionError(f"network: {arguments}")

        socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
        from tfbnas import data
        from tfbnas.errors import UserError

        print(data.load().train.size)
        for name in ("cifar10", "imagenet2012", "mnist:3.0.1", "cifar11"):
            try:
                data.load(name)
            except UserError as error:
                print(type(error).__name__)
    """
    environment = {**os.environ, "TFDS_DATA_DIR": str(tmp_path), "HOME": str(tmp_path), "TF_CPP_MIN_LOG_LEVEL": "3"}
    root = os.path.dirname(os.path.dirname(tfbnas.__file__))
    environment["PYTHONPATH"] = os.pathsep.join([root, environment.get("PYTHONPATH", "")])
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["2800", *["UserError"] * 4]
    assert "tensorflow_datasets" not in run.stderr and "Warning" not in run.stderr
    assert not (tmp_path / "downloads").exists()
