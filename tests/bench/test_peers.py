"""bench/peers without its environment: medians, ratios, verdicts, tables, arguments. Usage: test_peers.py SOURCES."""
import importlib.machinery
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import unittest

SOURCES = os.path.abspath(sys.argv.pop(1))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(SOURCES, "bench", "peerlib"))

import environment  # noqa: E402
import machine  # noqa: E402
import prepare  # noqa: E402
import report  # noqa: E402


def records(task, network, figure, tool, row, values, variant="", batch=64):
    """One value a round."""
    return [{"round": number, "task": task, "network": network, "tool": tool, "row": row, "variant": variant, "figure": figure,
             "batch": batch, "value": value, "others": 0.0} for number, value in enumerate(values, 1)]


def train(tool, row, values, variant=""):
    return records("train", "convnet", "images_per_s", tool, row, values, variant)


# Recorded on an AMD EPYC, 2 threads; rounds 2 and 3 with another process beside them.
RAW = (train("PyTorch", "FP32", [288.0, 144.0, 150.0], "contiguous") +
       train("PyTorch", "FP32", [262.0, 250.0, 130.0], "channels_last") +
       train("PyTorch", "bf16", [438.0, 219.0, 230.0], "channels_last") + train("cnnkit", "FP32", [864.0, 432.0, 840.0]) +
       train("cnnkit", "fp16 (--amp)", [1000.0, 500.0, 520.0]) +
       records("int8", "lenet5", "latency_ms", "OpenVINO", "INT8", [0.040, 0.044, 0.042], "U8S8", 1) +
       records("int8", "lenet5", "latency_ms", "ONNX Runtime", "INT8", [0.050, 0.054, 0.052], "S8S8", 1) +
       records("int8", "lenet5", "latency_ms", "cnnkit", "INT8", [0.010, 0.011, 0.0084], "", 1) +
       records("int8", "convnet", "images_per_s", "OpenVINO", "INT8", [4000.0, 4100.0, 4200.0], "U8S8", 64) +
       records("int8", "convnet", "images_per_s", "OpenVINO", "INT8", [5000.0, 5100.0, 5200.0], "U8S8", 256) +
       records("startup", "convnet", "start_ms", "cnnkit", "cnn-infer digit.png", [5.1, 5.0, 7.9], "", 1) +
       [{"round": number, "task": "int8", "network": "convnet", "tool": "cnnkit", "row": "INT8, blocks pruned 0.75", "variant": "",
         "missing": "no such structure", "others": 0.0} for number in (1, 2, 3)])
RESULT = {"date": "2026-11-25", "threads": 2, "cpus": [0, 1], "rounds": 3, "others": 0.0, "versions": {"torch": "2.15.0"},
          "machine": {"name": "AMD EPYC", "family": "25", "model": "17", "cpus": 2, "cores": 2, "caches": {"L2": "1024K"},
                      "isa": ["avx2"], "virtual": True}, "records": RAW}


def load_peers():
    loader = importlib.machinery.SourceFileLoader("peers", os.path.join(SOURCES, "bench", "peers"))
    peers = importlib.util.module_from_spec(importlib.util.spec_from_loader("peers", loader))
    loader.exec_module(peers)
    return peers


def line(task, figure, tool, row):
    group = next(g for g in report.groups_of(RAW) if (g["task"], g["figure"]) == (task, figure) and any(
        (one["tool"], one["row"]) == (tool, row) for one in g["lines"]))
    return next(one for one in group["lines"] if (one["tool"], one["row"]) == (tool, row))


class Report(unittest.TestCase):
    def test_best_setting_by_median(self):
        torch = line("train", "images_per_s", "PyTorch", "FP32")  # medians 150 and 250
        self.assertEqual((torch["variant"], torch["value"]), ("channels_last", 250.0))
        openvino = line("int8", "images_per_s", "OpenVINO", "INT8")
        self.assertEqual((openvino["batch"], openvino["value"]), (256, 5100.0))

    def test_ratio_is_the_median_of_each_rounds_ratio(self):
        ours = line("train", "images_per_s", "cnnkit", "FP32")  # 864/262, 432/250, 840/130
        self.assertAlmostEqual(ours["ratios"][0], 864.0 / 262.0)
        amp = line("train", "images_per_s", "cnnkit", "fp16 (--amp)")  # bf16: 1000/438, 500/219, 520/230
        self.assertEqual(amp["ratios"][1], sorted([1000.0 / 438.0, 500.0 / 219.0, 520.0 / 230.0])[1])

    def test_lower_is_better_for_times(self):
        ours = line("int8", "latency_ms", "cnnkit", "INT8")
        self.assertEqual(ours["ratios"][0], sorted([0.010 / 0.040, 0.011 / 0.044, 0.0084 / 0.042])[1])
        self.assertEqual(line("int8", "latency_ms", "ONNX Runtime", "INT8")["ratios"][0], 0.052 / 0.042)

    def test_goals(self):
        self.assertTrue(line("train", "images_per_s", "cnnkit", "FP32")["good"])
        self.assertTrue(line("startup", "start_ms", "cnnkit", "cnn-infer digit.png")["good"])
        amp = line("train", "images_per_s", "cnnkit", "fp16 (--amp)")  # 1000/262 and 520/130 do, 500/250 does not
        self.assertEqual((amp["goal"], amp["good"]), (">= 3.2x, >= 2x", True))
        slow = report.groups_of(train("PyTorch", "FP32", [300.0]) + train("cnnkit", "FP32", [899.0]))[0]["lines"][1]
        self.assertFalse(slow["good"])
        alone = report.groups_of(train("cnnkit", "FP32", [899.0]))[0]["lines"][0]
        self.assertEqual((alone["ratios"], alone["good"]), ([None, None], False))

    def test_missing_is_said_once(self):
        text = report.text(RAW)
        self.assertEqual(text.count("missing: convnet int8, cnnkit INT8, blocks pruned 0.75: no such structure"), 1)

    def test_tables(self):
        text = report.text(RAW)
        for words in ("convnet: training, batch 64", "x FP32 peer", "x bf16 peer", "3.30x", ">= 3x", "channels_last, batch 64",
                      "0.25x"):
            self.assertIn(words, text)
        table = report.markdown(RAW).splitlines()
        self.assertIn("| convnet, training, batch 64: FP32 | 840.0 images/s | 250.0 (PyTorch) | 3.30x |", table)
        self.assertIn("| convnet, training, batch 64: fp16 (--amp) | 520.0 images/s | 230.0 (PyTorch) | 2.28x |", table)
        self.assertTrue(all(row.count("|") == 5 for row in table), table)
        self.assertEqual(report.text([]), "")


class Machine(unittest.TestCase):
    def test_file_name(self):
        for name, want in (("AMD EPYC", "amd-epyc-25-17"), ("AMD EPYC 9654 96-Core Processor", "amd-epyc-9654"),
                           ("Intel(R) Xeon(R) Platinum 8488C", "intel-xeon-platinum-8488c"),
                           ("Intel(R) Core(TM) i7-1185G7 CPU @ 3.00GHz", "intel-core-i7-1185g7")):
            self.assertEqual(machine.file_name({"name": name, "family": "25", "model": "17"}), want)

    def test_cpuinfo(self):
        info = machine.parse_cpuinfo("processor\t: 0\nmodel name\t: A: B\nflags\t\t: fma avx2\n\nprocessor\t: 1\nmodel name\t: C\n")
        self.assertEqual((info["model name"], info["flags"]), ("A: B", "fma avx2"))

    def test_cpus(self):
        allowed = os.sched_getaffinity(0)
        self.assertEqual(set(machine.choose_cpus(len(allowed))), allowed)
        self.assertIsNone(machine.choose_cpus(len(allowed) + 1))


class Files(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = holder.name

    def bench(self, *args):
        command = [sys.executable, os.path.join(SOURCES, "bench", "peers"), *args]
        return subprocess.run(command, capture_output=True, text=True, cwd=self.folder, check=False)

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as out:
            out.write(text)
        return path

    def test_images(self):
        self.addCleanup(setattr, prepare, "TRAIN", prepare.TRAIN)
        prepare.TRAIN = 20
        prepare.write_images(self.folder)
        with open(os.path.join(self.folder, "train-images-idx3-ubyte"), "rb") as file:
            data = file.read()
        self.assertEqual(data[:16], bytes([0, 0, 8, 3, 0, 0, 0, 20, 0, 0, 0, 28, 0, 0, 0, 28]))
        self.assertEqual(len(data), 16 + 20 * 784)
        self.assertGreater(len({data[16 + 784 * n:800 + 784 * n] for n in range(20)}), 19)

    def test_environment(self):
        self.assertTrue(all(pin.count("==") == 1 for pin in environment.pins()))
        self.assertFalse(environment.ready(self.folder))
        self.write("mine.txt", "not an environment")
        with self.assertRaisesRegex(environment.Failed, "name another one with --venv"):
            environment.make(self.folder, lambda words: None)
        self.write("pins.txt", "\n".join(environment.pins()))
        self.assertTrue(environment.ready(self.folder))
        self.write("pins.txt", "torch==1.0\n")
        self.assertFalse(environment.ready(self.folder))

    def test_report(self):
        done = self.bench("--report", self.write("r.json", json.dumps(RESULT)))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("AMD EPYC (family 25, model 17, virtual): 2 cores, 2 threads; L2 1024K; avx2\n"
                      "2026-11-25, 2 threads on CPUs 0,1, 3 rounds; torch 2.15.0\n", done.stdout)
        self.assertIn(report.text(RAW), done.stdout)
        self.assertNotIn("warning", done.stdout)
        done = self.bench("--markdown", "--report", self.write("r.json", json.dumps({**RESULT, "others": 0.31})))
        self.assertIn(report.markdown(RAW), done.stdout)
        self.assertIn("warning: other processes took up to 31% of these cores", done.stdout)

    def test_median_step(self):
        """Of nine steps three warm up; then 10 images take 1, 1, 5, 1 and 2 seconds."""
        seconds, images, lines = 0.0, 0, ['{"event": "start", "step": 0}']
        for took in (30.0, 20.0, 20.0, 7.0, 1.0, 1.0, 5.0, 1.0, 2.0):
            seconds, images = seconds + took, images + 10
            lines.append(json.dumps({"event": "step", "images": images, "seconds": seconds}))
        lines.append('{"event": "end", "images": 90, "images_per_s": 1}')
        self.assertEqual(load_peers().median_step(self.write("steps.log", "\n".join(lines) + "\n")), 10.0)

    def test_results_file(self):
        peers = load_peers()
        path = os.path.join(self.folder, "results", "cpu.json")
        result = {**RESULT, "table": report.groups_of(RAW)}
        peers.write_json(path, result)
        with open(path, encoding="utf-8") as file:
            text = file.read()
        self.assertEqual(json.loads(text), result)
        self.assertGreater(len(text.splitlines()), len(RAW))  # a record a line: two runs can be compared
        self.assertEqual(os.listdir(os.path.dirname(path)), ["cpu.json"])
        self.assertIn(report.text(RAW), self.bench("--report", path).stdout)

    def refuses(self, code, words, *args):
        done = self.bench(*args)
        self.assertEqual((done.returncode, done.stdout), (code, ""), args)
        self.assertIn(words, done.stderr)
        if code == 1:
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)

    def test_refusals(self):
        self.refuses(2, "invalid choice: 'int4'", "--only", "int4")
        self.refuses(2, "--rounds: invalid positive number", "--rounds", "0")
        self.refuses(1, "--threads asks for 4097", "--threads", "4097")
        self.refuses(1, "cnn-train is not there; build it with", "--threads", "1", "--build", self.folder)
        self.refuses(1, "none.json: No such file", "--report", "none.json")
        self.refuses(1, "holds no results of bench/peers", "--report", self.write("r.json", "{}"))
        self.refuses(1, "holds no results of bench/peers", "--report", self.write("r.json", "[1"))


if __name__ == "__main__":
    unittest.main(verbosity=1)
