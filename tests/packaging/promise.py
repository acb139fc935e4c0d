#!/usr/bin/env python3
"""Holds the queue against the ledger of the provider's double.

    promise.py verdict LEDGER JOBS EXPECTED [ROOT]   every job there and done, charged once, its video whole
    promise.py doubts LEDGER JOBS                    what a person would find out about each job in doubt
    promise.py once LEDGER JOBS                      nothing is charged twice, whatever became of the jobs
    promise.py told EVENTS JOBS                      what a hook was told of a job is what the queue has

JOBS is what `klingd list -a --json` printed; the paths in it are looked up below ROOT.
"""
import collections
import hashlib
import json
import pathlib
import sys


def read(ledger_path, jobs_path):
    ledger = json.loads(pathlib.Path(ledger_path).read_text())
    jobs = [json.loads(line) for line in pathlib.Path(jobs_path).read_text().splitlines() if line]
    return ledger, jobs


def doubts(ledger, jobs):
    """Prints `ID --task-id T` where the money was taken, `ID --not-charged` where it was not."""
    task = {charge["request"]["prompt"]: charge["task_id"] for charge in ledger["charges"]}
    for job in jobs:
        if job["state"] == "in_doubt":
            found = task.get(job["request"]["prompt"])
            print(job["id"], *(["--task-id", found] if found else ["--not-charged"]))


def verdict(ledger, jobs, expected, root):
    wrong = []
    charged = collections.Counter(charge["request"]["prompt"] for charge in ledger["charges"])
    prompts = collections.Counter(job["request"]["prompt"] for job in jobs)
    if len(jobs) != expected:
        wrong.append(f"{expected} jobs were acknowledged, the queue has {len(jobs)}")
    wrong += [f"{prompt!r} was charged {n} times" for prompt, n in charged.items() if n > 1]
    wrong += [f"{prompt!r} was charged and is no job" for prompt in charged if prompt not in prompts]
    wrong += [f"{prompt!r} is {n} jobs" for prompt, n in prompts.items() if n > 1]
    for job in jobs:
        what = f"job {job['id']} ({job['request']['prompt']})"
        if job["state"] != "done":
            wrong.append(f"{what} is {job['state']}, {job['reason']}")
            continue
        if charged[job["request"]["prompt"]] != 1:
            wrong.append(f"{what} is done and was charged {charged[job['request']['prompt']]} times")
        for output in job["outputs"]:
            path = pathlib.Path(root + output["path"])
            if not path.is_file():
                wrong.append(f"{what}: {path} is missing")
            elif hashlib.sha256(path.read_bytes()).hexdigest() != output["sha256"]:
                wrong.append(f"{what}: {path} is not the file of its hash")
        if not job["outputs"]:
            wrong.append(f"{what} has no video")
    print("\n".join(wrong) or f"{len(jobs)} jobs, {sum(charged.values())} charges, every video whole")
    return 1 if wrong else 0


def once(ledger):
    charged = collections.Counter(charge["request"]["prompt"] for charge in ledger["charges"])
    wrong = [f"{prompt!r} was charged {n} times" for prompt, n in charged.items() if n > 1]
    print("\n".join(wrong) or f"{len(charged)} charges, each of its own")
    return 1 if wrong else 0


def told(events_path, jobs_path):
    jobs = {job["id"]: job for job in map(json.loads, pathlib.Path(jobs_path).read_text().splitlines())}
    events = [json.loads(line) for line in pathlib.Path(events_path).read_text().splitlines() if line]
    wrong = []
    for event in events:
        if event["event"] == "job.done":
            heard, job = event["job"], jobs[event["job"]["id"]]
            wrong += [f"event {event['id']}: {key} is {heard[key]}, not {job[key]}"
                      for key in ("state", "request", "task_id", "outputs") if heard[key] != job[key]]
    print("\n".join(wrong) or f"{len(events)} events")
    return 1 if wrong else 0


def main(argv):
    if argv[1] == "told":
        return told(argv[2], argv[3])
    ledger, jobs = read(argv[2], argv[3])
    if argv[1] == "doubts":
        doubts(ledger, jobs)
        return 0
    if argv[1] == "once":
        return once(ledger)
    return verdict(ledger, jobs, int(argv[4]), argv[5] if len(argv) > 5 else "")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
