"""Mutual TLS between the containers: the job runs, and who has no certificate is not heard."""

import datetime
import subprocess
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from skyfan import store
from tests.containers.conftest import DATASET, JOB, MODEL, Inputs, assert_same, finished, s3_environment
from tests.containers.stack import ROOT, Stack, compose_environment, servers

pytestmark = pytest.mark.docker

NAMES = ("partitioner", "executor", "aggregator", "rendezvous", "localhost")


def write_certificates(folder: Path) -> None:
    """An authority and one certificate for all services; the containers' user has to be able to read the key."""
    now = datetime.datetime.now(datetime.UTC)

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def builder(subject: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        made = x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name("test authority"))
        made = made.public_key(key.public_key()).serial_number(x509.random_serial_number())
        return made.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))

    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = builder("test authority", authority).add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
    alternatives = x509.SubjectAlternativeName([x509.DNSName(host) for host in NAMES])
    leaf = builder("skyfan", key).add_extension(alternatives, False)
    for file, certificate in (("ca.pem", root), ("cert.pem", leaf)):
        signed = certificate.sign(authority, hashes.SHA256())
        (folder / file).write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    folder.chmod(0o755)


@pytest.fixture(scope="module")
def tls_stack(images: None, inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The servers, each with a certificate; one executor."""
    folder = tmp_path_factory.mktemp("tls")
    write_certificates(folder)
    environment = compose_environment(
        "skyfan-test-tls",
        EXECUTORS="1",
        TLS_DIR=str(folder),
        SKYFAN_TLS_CERT="/tls/cert.pem",
        SKYFAN_TLS_KEY="/tls/key.pem",
        SKYFAN_TLS_CA="/tls/ca.pem",
    )
    with servers(environment) as running, pytest.MonkeyPatch.context() as patch:
        for variable, value in s3_environment(running.endpoint).items():
            patch.setenv(variable, value)
        for bucket in ("skyfan-data", "skyfan-results"):
            boto3.client("s3").create_bucket(Bucket=bucket)
        store.copy_in(inputs.dataset, DATASET)
        store.copy_in(inputs.model, MODEL)
        yield running


def test_a_job_runs_over_mutual_tls(tls_stack: Stack, inputs: Inputs) -> None:
    output = "s3://skyfan-results/tls"
    tls_stack.start_job(output, *JOB).wait()
    assert_same(finished(output), inputs)


def test_who_has_no_certificate_is_not_heard(tls_stack: Stack) -> None:
    def probe(*options: str) -> int:
        asked = ["docker", "compose", "exec", *options, "partitioner"]
        command = ["python", "-m", "skyfan.rpc.healthcheck", "executor:50051"]
        return subprocess.run([*asked, *command], cwd=ROOT, env=tls_stack.environment, check=False).returncode

    assert probe() == 0
    assert probe("--env=SKYFAN_TLS_CERT=", "--env=SKYFAN_TLS_KEY=", "--env=SKYFAN_TLS_CA=") == 1
