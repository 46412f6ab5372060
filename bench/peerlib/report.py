"""From raw records to medians, ratios and tables.

A record: round, task, network, tool, row (what is computed: "FP32", "INT8, pruned 0.5"), variant (how the tool is set), figure,
batch, value; or, when a tool could not be measured, `missing` with the reason in place of the last three.
A line of the table is a tool and a row; it shows the variant and batch with the best median over rounds. Its ratios
are medians too: in every round its value over that of the group's best peer, which the round measured minutes apart.
"""
import statistics

OURS = "cnnkit"
FIGURES = {"images_per_s": ("images/s", True), "latency_ms": ("ms", False), "start_ms": ("ms", False), "start_mib": ("MiB", False)}
TITLES = {("train", "images_per_s"): "training, batch 64", ("fp32", "images_per_s"): "FP32 inference, throughput",
          ("fp32", "latency_ms"): "FP32 inference, batch 1", ("int8", "images_per_s"): "INT8 inference, throughput",
          ("int8", "latency_ms"): "INT8 inference, batch 1", ("startup", "start_ms"): "INT8, start to first answer",
          ("startup", "start_mib"): "INT8, peak memory of that"}

# Training has two baselines, the best FP32 and the best bf16 peer; all else has one.
BASELINES = {"train": [("FP32 peer", lambda row: row.startswith("FP32")), ("bf16 peer", lambda row: row.startswith("bf16"))]}
ONE_BASELINE = [("best peer", lambda row: True)]

# What is aimed at: (task, network, figure, row) -> bound of each baseline's ratio, and of the value itself.
GOALS = {
    ("train", "convnet", "images_per_s", "FP32"): ([3.0, None], None),
    ("train", "convnet", "images_per_s", "fp16 (--amp)"): ([3.2, 2.0], None),
    ("train", "lenet5", "images_per_s", "FP32"): ([5.0, None], None),
    ("fp32", "convnet", "images_per_s", "FP32"): ([2.2], None),
    ("fp32", "convnet", "latency_ms", "FP32"): ([0.5], None),
    ("int8", "convnet", "images_per_s", "INT8"): ([1.15], None),
    ("int8", "convnet", "latency_ms", "INT8"): ([0.85], None),
    ("int8", "convnet", "images_per_s", "INT8, channels pruned 0.5"): ([3.0], None),
    ("int8", "convnet", "images_per_s", "INT8, blocks pruned 0.75"): ([3.0], None),
    ("int8", "lenet5", "latency_ms", "INT8"): ([0.25], None),
    ("startup", "convnet", "start_ms", "cnn-infer digit.png"): ([None], 6.0),
    ("startup", "convnet", "start_mib", "cnn-infer digit.png"): ([None], 16.0),
}


def distinct(values):
    return list(dict.fromkeys(values))


def best_of(records, higher):
    """The variant and batch with the best median of one line's records: (variant, batch, value, values by round)."""
    choices = []
    for key in distinct((r["variant"], r["batch"]) for r in records):
        by_round = {r["round"]: r["value"] for r in records if (r["variant"], r["batch"]) == key}
        choices.append((*key, statistics.median(by_round.values()), by_round))
    return (max if higher else min)(choices, key=lambda choice: choice[2])


def meets(value, bound, higher):
    return value >= bound if higher else value <= bound


def verdict(line, goal, higher):
    """"", or what is aimed at and whether it is met."""
    if not goal:
        return "", True
    bounds, absolute = goal
    words, good = [], True
    for ratio, bound in zip(line["ratios"], bounds):
        if bound is not None:
            words.append(f"{'>=' if higher else '<='} {bound:g}x")
            good = good and ratio is not None and meets(ratio, bound, higher)
    if absolute is not None:
        words.append(f"{'>=' if higher else '<='} {absolute:g}")
        good = good and meets(line["value"], absolute, higher)
    return ", ".join(words), good


def group_of(records, task, network, figure):
    unit, higher = FIGURES[figure]
    mine = [r for r in records if (r["task"], r["network"], r.get("figure")) == (task, network, figure)]
    lines = []
    for tool, row in distinct((r["tool"], r["row"]) for r in mine):
        variant, batch, value, by_round = best_of([r for r in mine if (r["tool"], r["row"]) == (tool, row)], higher)
        lines.append({"tool": tool, "row": row, "variant": variant, "batch": batch, "value": value, "rounds": by_round})
    baselines = []
    for name, fits in BASELINES.get(task, ONE_BASELINE):
        peers = [line for line in lines if line["tool"] != OURS and fits(line["row"])]
        best = (max if higher else min)(peers, key=lambda line: line["value"]) if peers else None
        baselines.append({"name": name, "tool": best and best["tool"], "row": best and best["row"]})
        for line in lines:
            shared = best and [line["rounds"][n] / best["rounds"][n] for n in line["rounds"] if n in best["rounds"]]
            line.setdefault("ratios", []).append(statistics.median(shared) if shared else None)
    for line in lines:
        goal = GOALS.get((task, network, figure, line["row"])) if line["tool"] == OURS else None
        line["goal"], line["good"] = verdict(line, goal, higher)
        del line["rounds"]
    return {"task": task, "network": network, "figure": figure, "unit": unit, "title": TITLES[task, figure],
            "baselines": baselines, "lines": lines}


def missing_of(records):
    """Each tool that could not be measured: (task, network, tool, row, variant, reason), once."""
    return distinct((r["task"], r["network"], r["tool"], r["row"], r["variant"], r["missing"]) for r in records if "missing" in r)


def groups_of(records):
    keys = distinct((r["task"], r["network"], r["figure"]) for r in records if "figure" in r)
    return [group_of(records, *key) for key in keys]


def number(value):
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.{3 if value < 1 else 2 if value < 10 else 1}f}"


def ratio(value):
    return "-" if value is None else f"{value:.2f}x"


def rows_of(group):
    for line in group["lines"]:
        how = line["variant"] + (f"{', ' if line['variant'] else ''}batch {line['batch']}" if line["batch"] > 1 else "")
        aim = f"{line['goal']}{'' if line['good'] else ' MISSED'}" if line["goal"] else ""
        yield [line["tool"], line["row"], f"{number(line['value'])} {group['unit']}", *map(ratio, line["ratios"]), aim, how]


def heads_of(group):
    return ["tool", "", "median", *(f"x {baseline['name']}" for baseline in group["baselines"]), "goal", "how"]


def text(records):
    out = []
    for group in groups_of(records):
        rows = [heads_of(group), *rows_of(group)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        right = range(2, 3 + len(group["baselines"]))
        out.append(f"\n{group['network']}: {group['title']}")
        for row in rows:
            cells = [cell.rjust(width) if place in right else cell.ljust(width) for place, (cell, width) in
                     enumerate(zip(row, widths))]
            out.append(("  " + "  ".join(cells)).rstrip())
    for task, network, tool, row, variant, reason in missing_of(records):
        out.append(f"missing: {network} {task}, {tool} {row}{' (' + variant + ')' if variant else ''}: {reason}")
    return "\n".join(out).lstrip("\n")


def best_peer_cell(group, place):
    baseline = group["baselines"][place]
    line = next((line for line in group["lines"] if (line["tool"], line["row"]) == (baseline["tool"], baseline["row"])), None)
    return f"{number(line['value'])} ({line['tool']})" if line else "-"


def markdown(records):
    """One table, a line for each row of ours, for README."""
    out = ["| | cnnkit | best peer | ratio |", "|---|---|---|---|"]
    for group in groups_of(records):
        for line in group["lines"]:
            if line["tool"] != OURS:
                continue
            # 16-bit training is held against 16-bit training
            half = len(group["baselines"]) > 1 and not line["row"].startswith("FP32")
            place = 1 if half else 0
            out.append(f"| {group['network']}, {group['title']}: {line['row']} | {number(line['value'])} {group['unit']} | "
                       f"{best_peer_cell(group, place)} | {ratio(line['ratios'][place])} |")
    for task, network, tool, row, _, reason in missing_of(records):
        if tool == OURS or row == "":
            out.append(f"| {network}, {task}: {row or tool} | missing: {reason} | | |")
    return "\n".join(out)
