#!/usr/bin/env python3
"""Deploy to the caller's own AWS account, run the demo under a spending cap, destroy. Standard library only.

Opt-in: nothing happens unless SKYFAN_AWS_ACCOUNT names the account that the credentials belong to.
SKYFAN_AWS_CAP_USD (default 1) bounds what the run may cost at the very worst: every rank taking every retry to its last
second. What cannot be bounded from here: storage until destroy, and logs (cents).

    SKYFAN_AWS_ACCOUNT=123456789012 AWS_REGION=us-east-1 make test-aws

It needs terraform, docker, aws and skyfan on PATH. Its state lies in .terraform-tools/aws/; where destroy fails,
running it again destroys first what is left.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "infra/terraform"
STATE = ROOT / ".terraform-tools/aws"

GALAXIES, RANKS = 1000, 10
EXECUTOR_MB, EXECUTOR_TIMEOUT_S = 3008, 100
OTHER_MB, OTHER_TIMEOUT_S = 1024, 120
RUN_TIMEOUT_S = 1800
# Tries of a task that are billed: the first, 6 after transient errors and 3 after lost workers (pipeline.asl.json).
BILLED_TRIES = 10
# The dearest regions' price of a GB-second on x86_64; us-east-1 takes 0.0000166667.
USD_PER_GB_S = 0.0000229
LIST_PRICES_USD = 0.01  # requests, state transitions, puts and gets of so few ranks, rounded up
APPLY_TIMEOUT_S, COMMAND_TIMEOUT_S = 3600, 300


class Refused(Exception):
    """Why nothing was started."""


def worst_case_usd() -> float:
    """Cost when everything that may be retried is, each time until it is cut off."""
    # Prepare and Convert run in an executor as a rank does; Plan, Aggregate and RecordFailure in the others.
    ranks = (RANKS + 2) * EXECUTOR_TIMEOUT_S * EXECUTOR_MB / 1024
    others = 3 * OTHER_TIMEOUT_S * OTHER_MB / 1024
    return BILLED_TRIES * (ranks + others) * USD_PER_GB_S + LIST_PRICES_USD


def check_spending_cap() -> None:
    cap_usd = float(os.environ.get("SKYFAN_AWS_CAP_USD", "1"))
    if worst_case_usd() > cap_usd:
        raise Refused(f"The run may cost up to ${worst_case_usd():.2f}, above SKYFAN_AWS_CAP_USD = {cap_usd:.2f}.")
    say(f"At the very worst the run costs ${worst_case_usd():.2f}; the cap is ${cap_usd:.2f}.")


def check_account() -> None:
    for tool in ("terraform", "docker", "aws", "skyfan"):
        if shutil.which(tool) is None:
            raise Refused(f"The {tool} command is not on PATH.")
    wanted = os.environ.get("SKYFAN_AWS_ACCOUNT", "")
    if not wanted:
        raise Refused("Set SKYFAN_AWS_ACCOUNT to the account that this may deploy to and destroy from.")
    actual = captured("aws", "sts", "get-caller-identity", "--query", "Account", "--output", "text").strip()
    if actual != wanted:
        raise Refused(f"The credentials belong to account {actual}, and SKYFAN_AWS_ACCOUNT names {wanted}.")


def say(text: str) -> None:
    print(f"test-aws: {text}", file=sys.stderr, flush=True)


def run(*command: str, timeout_s: float = COMMAND_TIMEOUT_S) -> None:
    say("$ " + shlex.join(command))
    subprocess.run(command, cwd=ROOT, check=True, timeout=timeout_s)


def captured(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S)
    return done.stdout


def terraform(command: str, *arguments: str, timeout_s: float = APPLY_TIMEOUT_S) -> None:
    run("terraform", f"-chdir={MODULE}", command, *arguments, timeout_s=timeout_s)


def outputs() -> dict[str, str]:
    raw = json.loads(captured("terraform", f"-chdir={MODULE}", "output", "-json", f"-state={STATE}/terraform.tfstate"))
    return {name: entry["value"] for name, entry in raw.items()}


def deployment_name() -> str:
    """A name that no other deployment has, the same until it is destroyed."""
    file = STATE / "environment"
    if not file.exists():
        file.write_text(f"t{secrets.token_hex(3)}")
    return file.read_text()


def state_arguments() -> list[str]:
    sizes = {
        "environment": deployment_name(),
        "force_destroy": "true",
        "executor_memory_mb": str(EXECUTOR_MB),
        "executor_timeout_s": str(EXECUTOR_TIMEOUT_S),
        "partitioner_memory_mb": str(OTHER_MB),
        "partitioner_timeout_s": str(OTHER_TIMEOUT_S),
        "aggregator_memory_mb": str(OTHER_MB),
        "aggregator_timeout_s": str(OTHER_TIMEOUT_S),
        "map_concurrency": str(RANKS),
        "run_timeout_s": str(RUN_TIMEOUT_S),
    }
    variables = [f"-var={name}={value}" for name, value in sizes.items()]
    return ["-auto-approve", "-input=false", f"-state={STATE}/terraform.tfstate", *variables]


def destroy() -> None:
    terraform("destroy", *state_arguments())
    shutil.rmtree(STATE)
    say("Everything is destroyed.")


def deploy_and_run() -> None:
    terraform("apply", *state_arguments())
    made = outputs()
    bucket = made["bucket"]
    run("env", *shlex.split(made["demo_data_command"]))
    run("env", *shlex.split(made["run_command"]), "--world-size", str(RANKS), timeout_s=RUN_TIMEOUT_S)
    summary = json.loads(captured("aws", "s3", "cp", f"s3://{bucket}/runs/first/summary.json", "-"))
    completeness = summary["completeness"]
    if completeness["samples_predicted"] != GALAXIES:
        raise SystemExit(f"test-aws: {completeness['samples_predicted']} of {GALAXIES} galaxies have a redshift.")
    say(f"All {GALAXIES} galaxies have a redshift.")


def main() -> None:
    try:
        check_account()
        check_spending_cap()
    except Refused as refusal:
        raise SystemExit(f"test-aws: {refusal} Nothing was started.") from None
    STATE.mkdir(parents=True, exist_ok=True)
    terraform("init", "-input=false")
    if (STATE / "terraform.tfstate").exists():
        say("An earlier run was not destroyed: that comes first.")
        destroy()
        STATE.mkdir(parents=True)
    try:
        deploy_and_run()
    finally:
        destroy()


if __name__ == "__main__":
    main()
