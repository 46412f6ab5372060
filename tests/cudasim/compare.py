"""Compares what two devices found, for the tests of this folder. Standard library only.

    compare.py losses LOG LOG LIMIT STEPS    the same STEPS steps in two logs of cnn-train, losses that differ by LIMIT at
                                             most, relative to the second's
    compare.py logits FILE FILE LIMIT        float32 scores that differ by LIMIT at most, relative to the second's largest
    compare.py scaler LOG LOG                the same loss scale and skipped steps after each step and at the end
"""
import array
import json
import sys


def events(log, kind):
    with open(log, encoding="utf-8") as lines:
        return [event for event in map(json.loads, lines) if event["event"] == kind]


def losses(ours, theirs, limit, steps):
    ours, theirs = ([step["step_loss"] for step in events(log, "step")] for log in (ours, theirs))
    assert len(ours) == len(theirs) == int(steps), f"{len(ours)} and {len(theirs)} steps, not {steps}"
    worst, step = max((abs(a - b) / max(abs(b), 1e-3), i + 1) for i, (a, b) in enumerate(zip(ours, theirs)))
    assert worst <= float(limit), f"losses differ by {worst:.2e} in step {step}, allowed is {limit}"
    return f"losses of {steps} steps within {worst:.1e}"


def logits(ours, theirs, limit):
    scores = []
    for path in (ours, theirs):
        with open(path, "rb") as file:
            scores.append(array.array("f", file.read()))
    assert len(scores[0]) == len(scores[1]) > 0, f"{len(scores[0])} and {len(scores[1])} scores"
    worst = max(abs(a - b) for a, b in zip(*scores)) / max(map(abs, scores[1]))
    assert worst <= float(limit), f"scores differ by {worst:.2e}, allowed is {limit}"
    return f"{len(scores[0])} scores within {worst:.1e}"


def scaler(ours, theirs):
    def account(log):
        found = [(step["loss_scale"], step["skipped_steps"]) for step in events(log, "step")]
        return found + [tuple(end[key] for key in ("skipped_steps", "loss_scale_min", "loss_scale_max")) for end in events(log, "end")]

    ours, theirs = account(ours), account(theirs)
    assert ours == theirs, f"{ours} and {theirs}"
    assert ours[-1][0] > 0, "no step was skipped"
    return f"{ours[-1][0]} steps skipped, loss scale from {ours[-1][2]:.0f} to {ours[-1][1]:.0f}"


if __name__ == "__main__":
    try:
        print({"losses": losses, "logits": logits, "scaler": scaler}[sys.argv[1]](*sys.argv[2:]))
    except AssertionError as why:
        sys.exit(f"compare.py: {' '.join(sys.argv[1:4])}: {why}")
