"""huey in the benches: `bulk` and `one` time the calls, `enqueuer` and `consumer` are the two ends of the latency.

SqliteHuey is WAL by itself; fsync=True makes every commit `synchronous=FULL`. It has no bulk call.
"""

import sys
import time

from huey import SqliteHuey

part, directory, path = sys.argv[1:4]
huey = SqliteHuey(filename=directory + "/huey.db", fsync=True, results=False)


@huey.task()
def job(payload):
    with open(path, "a", encoding="utf-8") as began:
        began.write(f"{time.time_ns()}\n")


if part == "consumer":
    huey.create_consumer(workers=1).run()
elif part == "enqueuer":
    for line in sys.stdin:
        job(line)
        print(time.time_ns(), flush=True)
else:
    with open(path, encoding="utf-8") as file:
        payloads = file.read().splitlines()
    start = time.perf_counter()
    for payload in payloads:
        job(payload)
    print("wall", time.perf_counter() - start)
    if len(huey) != len(payloads):
        sys.exit("huey lost jobs")
