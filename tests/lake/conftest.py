"""A lake, a model, an S3 server, and a proxy that fails on demand."""

import os
import pathlib
import socket
import subprocess
import sys
import time

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from proxy import FaultyProxy

LAKEFOLD = os.environ["LAKEFOLD"]
ROWS = 3000
CHUNK = 250


def run(*arguments, code=0, environment=None, **options):
    """Runs the binary to its end and checks the exit code; gives its stderr and stdout."""
    done = subprocess.run(
        [LAKEFOLD, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **(environment or {})},
        **options,
    )
    assert done.returncode == code, (done.returncode, done.stderr)
    return done


def vectors(first, count, dimensions=3):
    flat = pa.array([float((i * 7919 + j * 104729) % 1009) for i in range(first, first + count) for j in range(dimensions)], pa.float32())
    return pa.FixedSizeListArray.from_arrays(flat, dimensions)


@pytest.fixture(scope="session")
def lake(tmp_path_factory):
    """A directory with two files of vectors, and a model of them."""
    root = tmp_path_factory.mktemp("lake")
    (root / "in").mkdir()
    for name, first in [("a.parquet", 0), ("b.parquet", ROWS)]:
        table = pa.table({"id": pa.array(range(first, first + ROWS)), "v": vectors(first, ROWS)})
        pq.write_table(table, root / "in" / name, row_group_size=CHUNK)
    run("fit", root / "in", "--column", "v", "--model", root / "model.parquet", "--n-neighbors", 8, "--reg", 0.1,
        "--solver", "landmarks", "--n-landmarks", 60)
    return root


def job(source, target, model, *more):
    return ["transform", source, target, "--column", "v", "--model", model, "--chunk-rows", CHUNK, *more]


@pytest.fixture(scope="session")
def reference(lake):
    """What an uninterrupted job writes on the local disk: contents by name."""
    run(*job(lake / "in", lake / "reference", lake / "model.parquet"))
    return visible(lake / "reference")


def visible(directory):
    files = pathlib.Path(directory).rglob("*.parquet")
    names = ((str(f.relative_to(directory)), f) for f in files)
    return {name: file.read_bytes() for name, file in names if not name.startswith("_")}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """moto's server; `proxied` is the same through the proxy."""

    def __init__(self):
        port = free_port()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.url = f"http://127.0.0.1:{port}"
        for _ in range(300):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        self.proxy = FaultyProxy(port)
        self.client = boto3.client(
            "s3", endpoint_url=self.url, aws_access_key_id="k", aws_secret_access_key="s", region_name="us-east-1"
        )
        self.buckets = 0

    def bucket(self, directory=None):
        """A new bucket, with the files of a directory in `in/`."""
        self.buckets += 1
        name = f"bucket-{self.buckets}"
        self.client.create_bucket(Bucket=name)
        if directory:
            for file in sorted((directory / "in").glob("*.parquet")):
                self.client.put_object(Bucket=name, Key=f"in/{file.name}", Body=file.read_bytes())
            self.client.put_object(Bucket=name, Key="model.parquet", Body=(directory / "model.parquet").read_bytes())
        return name

    def environment(self, proxied=False):
        return {
            "AWS_ENDPOINT_URL": self.proxy.url if proxied else self.url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "k",
            "AWS_SECRET_ACCESS_KEY": "s",
            "AWS_REGION": "us-east-1",
        }

    def objects(self, bucket, prefix):
        listed = self.client.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
        names = [o["Key"] for o in listed]
        return {n[len(prefix):]: content for n in names if (content := self.content(bucket, n)) is not None}

    def content(self, bucket, name):
        """None for what a job at work has removed since it was listed."""
        try:
            return self.client.get_object(Bucket=bucket, Key=name)["Body"].read()
        except self.client.exceptions.NoSuchKey:
            return None

    def visible(self, bucket, prefix="out/"):
        return {n: c for n, c in self.objects(bucket, prefix).items() if not n.startswith("_")}


@pytest.fixture(scope="session")
def s3():
    server = Server()
    yield server
    server.proxy.close()
    server.process.terminate()
    server.process.wait()


@pytest.fixture(autouse=True)
def healthy(request):
    yield
    if "s3" in request.fixturenames:
        request.getfixturevalue("s3").proxy.heal()
