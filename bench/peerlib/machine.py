"""The CPU that is measured on: name, topology, caches, instruction sets; which cores to use, and who else uses them."""
import os
import re
import resource

FLAGS = ["avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8",
         "amx_bf16"]
SYSTEM = "/sys/devices/system/cpu"


def read(path, default=""):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return default


def parse_cpuinfo(text):
    """The first processor's lines of /proc/cpuinfo."""
    return {name.strip(): value.strip() for name, _, value in
            (line.partition(":") for line in text.split("\n\n")[0].splitlines())}


def describe():
    info = parse_cpuinfo(read("/proc/cpuinfo"))
    allowed = sorted(os.sched_getaffinity(0))
    cores = {core_of(cpu) for cpu in allowed}
    caches = {}
    for index in range(8):
        folder = f"{SYSTEM}/cpu{allowed[0]}/cache/index{index}"
        level, kind = read(f"{folder}/level"), read(f"{folder}/type")
        if level:
            caches[f"L{level}" + {"Data": "d", "Instruction": "i"}.get(kind, "")] = read(f"{folder}/size")
    flags = set(info.get("flags", "").split())
    return {"name": info.get("model name", "unknown CPU"), "family": info.get("cpu family", ""), "model": info.get("model", ""),
            "cpus": len(allowed), "cores": len(cores), "caches": caches, "isa": [flag for flag in FLAGS if flag in flags],
            "virtual": "hypervisor" in flags}


def core_of(cpu):
    folder = f"{SYSTEM}/cpu{cpu}/topology"
    return read(f"{folder}/physical_package_id", "0"), read(f"{folder}/core_id", str(cpu))


def choose_cpus(count):
    """`count` CPUs of this process on as many cores as there are; None when there are fewer."""
    allowed = sorted(os.sched_getaffinity(0))
    first, later, seen = [], [], set()
    for cpu in allowed:
        (later if core_of(cpu) in seen else first).append(cpu)
        seen.add(core_of(cpu))
    return sorted((first + later)[:count]) if len(allowed) >= count else None


def file_name(machine):
    """"AMD EPYC" with family 25, model 17 -> amd-epyc-25-17: a name without digits says little on its own."""
    name = re.sub(r"\((r|tm)\)|\b(cpu|processor|\d+-core)\b|@.*", " ", machine["name"].lower())
    if not re.search(r"\d", name):
        name += f" {machine['family']} {machine['model']}"
    return re.sub(r"[^a-z0-9]+", "-", name).strip("-") or "unknown"


def sentence(machine):
    caches = ", ".join(f"{level} {size}" for level, size in machine["caches"].items())
    return (f"{machine['name']} (family {machine['family']}, model {machine['model']}{', virtual' if machine['virtual'] else ''}): "
            f"{machine['cores']} cores, {machine['cpus']} threads; {caches}; {' '.join(machine['isa'])}")


class Others:
    """The share of some CPUs' time that processes other than our children took."""

    def __init__(self, cpus):
        self.cpus = {f"cpu{cpu}" for cpu in cpus}
        self.busy, self.all, self.own = self.now()

    def now(self):
        busy = total = 0
        for line in read("/proc/stat").splitlines():
            name, *ticks = line.split()
            if name in self.cpus:
                ticks = [int(tick) for tick in ticks[:8]]  # user nice system idle iowait irq softirq steal
                total += sum(ticks)
                busy += sum(ticks) - ticks[3] - ticks[4]
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        own = sum(usage.ru_utime + usage.ru_stime for usage in used) * os.sysconf("SC_CLK_TCK")
        return busy, total, own

    def share(self):
        busy, total, own = self.now()
        return max(0.0, (busy - self.busy) - (own - self.own)) / max(1, total - self.all)
