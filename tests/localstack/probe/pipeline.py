"""Answers every event of the pipeline with the keys that docs/step-functions.md names; the work is left out."""

REQUIRED = {
    "prepare": {"op", "input", "execution", "attempt"},
    "plan": {"op", "request", "model", "execution", "attempt"},
    "infer": {"op", "run_id", "rank", "item", "model", "output", "batch_size", "options", "group", "attempt"},
    "aggregate": {"op", "request", "model", "plan", "map", "map_ended_at", "execution", "attempt"},
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
    request = event["input"]
    if not isinstance(request, dict) or "output" not in request:
        fail_as("SkyfanBadInput", "The execution's input lacks output.")
    if event["attempt"] < request["options"].get("transient_prepares", 0):
        fail_as("SkyfanTransient", "not yet")
    return {"request": request, "model": {"digest": "abc"}, "more": "not kept"}


def plan(event):
    request = event["request"]
    options = request["options"]
    return {
        "run_id": "run-1",
        "output": request["output"],
        "ranks_total": options["ranks"],
        "ranks_to_run": options["ranks_to_run"],
        "planned_at": event["execution"]["started_at"],
        "items": {"bucket": "runs", "key": options["items_key"]},
        "results": {"bucket": "runs", "prefix": options["results_prefix"]},
        "max_concurrency": request["max_concurrency"],
        "tolerated_failure_percentage": request["tolerated_failure_percentage"],
        "group": None,
    }


def infer(event):
    options = event["options"]
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
    }


def fail(event):
    if event["failure"]["Error"] != "SkyfanBadInput":
        fail_as("ValueError", "recording fails as well")
    return {"recorded": None}
