"""Answers every event of the pipeline with the keys that docs/how-to/step-functions.md names; the work is left out."""

REQUIRED = {
    "prepare": {"op", "input", "execution", "attempt"},
    "plan": {"op", "job", "model", "execution", "attempt"},
    "convert": {"op", "job", "model", "array", "execution", "attempt"},
    "infer": {"op", "run_id", "rank", "item", "job", "model", "group", "execution", "attempt"},
    "aggregate": {"op", "job", "plan", "map", "map_ended_at", "execution", "attempt"},
    "fail": {"op", "input", "failure", "execution", "attempt"},
}


def handle(event, _context):
    op = event["op"]
    if event.keys() != REQUIRED[op]:
        raise ValueError(f"{op} came with {sorted(event)}")
    return globals()[op](event)


def fail_as(name, message):
    raise type(name, (Exception,), {})(message)


def prepare(event):
    job = event["input"]
    if not isinstance(job, dict) or "output" not in job:
        fail_as("SkyfanBadInput", "The execution's input lacks output.")
    if event["attempt"] < job["options"].get("transient_prepares", 0):
        fail_as("SkyfanTransient", "not yet")
    return {"job": job, "model": {"digest": "abc"}, "more": "not kept"}


def plan(event):
    job = event["job"]
    options = job["options"]
    return {
        "run_id": "run-1",
        "output": job["output"],
        "ranks_total": options["ranks"],
        "ranks_to_run": options["ranks_to_run"],
        "planned_at": event["execution"]["started_at"],
        "items": {"bucket": "runs", "key": options["items_key"]},
        "results": {"bucket": "runs", "prefix": options["results_prefix"]},
        "max_concurrency": job["max_concurrency"],
        "tolerated_failure_percentage": job["tolerated_failure_percentage"],
        "group": None,
        "array": None,
    }


NO_MORE = {"name": "", "half_width": None, "parts": []}


def convert(event):
    digest, engine = event["model"]["digest"], event["job"].get("options", {}).get("engine", "openvino")
    return {"uri": "s3://models/x", "digest": digest, "source_digest": digest, "engine": engine, **NO_MORE}


def infer(event):
    options = event["job"]["options"]
    if event["rank"] < options.get("bad_ranks", 0):
        fail_as("SkyfanDatasetError", f"rank {event['rank']} cannot be read")
    if event["attempt"] < (options.get("flaky", 0) if event["rank"] == 7 else 0):
        fail_as("SkyfanTransient", "not yet")
    return {"rank": event["rank"], "status": "committed", "samples": event["item"]["stop"]}


def aggregate(event):
    kind = "failed" if "Error" in event["map"] else "held" if event["map"] else "nothing"
    return {
        "status": kind,
        "summary": f"{event['plan']['output']}/summary.json",
        "ranks_done": 0,
        "samples_done": 0,
        "samples_total": 0,
        "too_many_failed": kind == "failed",
    }


def fail(event):
    if event["failure"]["Error"] != "SkyfanBadInput":
        fail_as("ValueError", "recording fails as well")
    return {"recorded": None}
