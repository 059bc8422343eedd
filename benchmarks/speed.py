"""Two libraries timed in one run: each in a process of its own, in turns, round after round.

A side is a program that reads one JSON object a line, {"do": METHOD, ...arguments}, and answers with one, so that
neither the memory nor the threads of one side are in the way of the other. Only the standard library is used here: the
sides live in environments that have not the other's packages.
"""

import json
import math
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time
import traceback

HERE = pathlib.Path(__file__).parent
MEASURE = 0.2  # seconds that one measurement takes at least: many short calls are timed together
_OPEN = []  # sides that hold memory of the device


class Side:
    """One program of the comparison. `ask` runs a method of its worker; whatever it prints goes to our stderr."""

    def __init__(self, python: str | pathlib.Path, script: str, **environment: str):
        # Half of the device's memory would be taken at once, and the sides share it.
        environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", **environment}
        path = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen(
            [str(python), str(HERE / script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": path} | environment,
        )  # fmt: skip
        _OPEN.append(self)

    def ask(self, do: str, **arguments) -> dict:
        """The answer of a method.

        Raises:
          RuntimeError: the method raised, or the program ended.
        """
        self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{do}: the process ended with {self.process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{do}: {answer['error']}")
        return answer


def close_sides() -> None:
    """End all sides: what one case leaves would be missing to the next."""
    while _OPEN:
        process = _OPEN.pop().process
        process.stdin.close()
        process.wait()


def serve(worker) -> None:
    """Answer requests by methods of `worker` until the other end closes."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(worker, request.pop("do"))(**request) or {}
        except Exception as error:  # one case that fails, for want of memory say, is not the end of all
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        print(json.dumps(answer), file=answers, flush=True)


def timed(call, wait, repeats: int, inner: int) -> dict:
    """Seconds, and seconds of processor time, of one call in each of `repeats` measurements of `inner` calls.

    Args:
      call, wait: one call, and what returns when all calls are done.
      inner: 0: as many as fill MEASURE seconds, found with one call, which also warms up. The count of `peak_memory`
        starts after it.
    """
    if not inner:
        call(), wait()
        start = time.perf_counter()
        call(), wait()
        inner = max(1, math.ceil(MEASURE / (time.perf_counter() - start)))
        forget_peak()
    wall, processor = [], []
    for _ in range(repeats):
        start, used = time.perf_counter(), time.process_time()
        for _ in range(inner):
            call()
        wait()
        wall.append((time.perf_counter() - start) / inner)
        processor.append((time.process_time() - used) / inner)
    return {"seconds": wall, "cpu_seconds": processor, "inner": inner}


def cores() -> int:
    """Processor cores that this process may use: `taskset` gives it fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def forget_peak() -> None:
    """Start the count of `peak_memory` anew, where Linux lets us."""
    try:
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def peak_memory() -> int:
    """Bytes that this process held at most, since `forget_peak` on Linux."""
    try:
        status = pathlib.Path("/proc/self/status").read_text()
        return 1024 * int(status.split("VmHWM:")[1].split()[0])
    except (OSError, IndexError):
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def rounds(sides: dict[str, Side], number: int, deadline: float, **request) -> dict[str, list[dict]]:
    """The answers of each side to `number` equal requests, in turn; fewer, but two or more, if time runs out."""
    found, inner = {name: [] for name in sides}, dict.fromkeys(sides, 0)
    for i in range(number):
        if i > 1 and time.monotonic() > deadline:
            break
        for name, side in sides.items():
            answer = side.ask(**request, inner=inner[name])
            inner[name] = answer["inner"]
            found[name].append(answer)
    return found


def spread(values: list[float], digits: int = 4) -> dict:
    """Median and quartiles."""
    quartiles = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    short = [float(f"{v:.{digits}g}") for v in (quartiles[1], quartiles[0], quartiles[2])]
    return {"median": short[0], "quartiles": short[1:]}


def figures(found: dict[str, list[dict]], images: int, first: str = "ours") -> dict:
    """By side: milliseconds, images/s, and for the others how many times as many images a second the first one makes.

    A ratio is taken round by round between neighbours in time; its median is given, with the same of processor time,
    which other programs on the machine disturb less.
    """
    table = {}
    for name, answers in found.items():
        seconds = [s for answer in answers for s in answer["seconds"]]
        row = {
            "ms": spread([1e3 * s for s in seconds]),
            "images_per_s": float(f"{images / statistics.median(seconds):.4g}"),
        }
        row["cpu_ms"] = float(f"{1e3 * statistics.median(s for answer in answers for s in answer['cpu_seconds']):.4g}")
        if name != first:
            for key, label in (("seconds", "ours_over_theirs"), ("cpu_seconds", "ours_over_theirs_by_cpu_time")):
                pairs = [
                    statistics.median(b[key]) / statistics.median(a[key])
                    for a, b in zip(found[first], answers, strict=True)
                ]
                row[label] = spread(pairs, 3)
        table[name] = row
    return table


def stored(name: str) -> dict:
    """The cases of results/NAME.json, {} where there is none."""
    path = HERE / "results" / f"{name}.json"
    return json.loads(path.read_text())["cases"] if path.exists() else {}
