"""Before a rank's invocation reaches the real handler: the harm that `<output>/faults.json` asks for.

{"3": {"kind": "exit", "attempts": 2}} ends the process in the first two attempts of rank 3. Kinds: `exit`; `lose`
deletes the object (`bucket`, `key`) that the rank would read; `hang` writes the host's name to
`<output>/hanging-<rank>` and waits as long as faults.json is there.
"""

import json
import os
import socket
import time

import boto3

from services.executor.lambda_handler import handler as real_handler

LONGEST_HANG_S = 120
s3 = boto3.client("s3")


def handler(event, context):
    if event["op"] == "infer":
        fault = faults(event["job"]["output"]).get(str(event["rank"]))
        if fault and event["attempt"] < fault.get("attempts", 1):
            KINDS[fault["kind"]](event, fault)
    return real_handler(event, context)


def faults(output):
    bucket, key = place(output, "faults.json")
    found = s3.list_objects_v2(Bucket=bucket, Prefix=key)
    return json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read()) if found["KeyCount"] else {}


def place(output, name):
    bucket, _, prefix = output.removeprefix("s3://").partition("/")
    return bucket, f"{prefix}/{name}"


def leave(_event, _fault):
    os._exit(3)


def lose(_event, fault):
    s3.delete_object(Bucket=fault["bucket"], Key=fault["key"])


def hang(event, _fault):
    bucket, key = place(event["job"]["output"], f"hanging-{event['rank']}")
    s3.put_object(Bucket=bucket, Key=key, Body=socket.gethostname().encode())
    deadline = time.monotonic() + LONGEST_HANG_S
    while faults(event["job"]["output"]) and time.monotonic() < deadline:
        time.sleep(0.2)


KINDS = {"exit": leave, "lose": lose, "hang": hang}
