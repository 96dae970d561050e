"""`./dev torture`: faults by the hour, each round with a daemon, a database and a load of its own, compared with an independent
model of the state table. Prints the seed first, a line a round, and the table of figures at the end. Status 1 where a promise
was broken; the folder of that round is kept, and the command that repeats it is printed.

The seed decides the events, the connections, the settings and the moments as far as they are counted in events; the machine's
own timing remains.
"""

import argparse
import random
import sys
import time
import traceback

from harness import Postgres
from torture_fault import Figures, load_table
from torture_trial import Trial

KINDS = ("sqlite", "postgresql")


class Clusters:
    """The PostgreSQL servers of the rounds: one for all, and one of its own for each fault that hurts it."""

    def __init__(self):
        self._shared = None
        self._own = None
        self._number = 0

    def next_number(self):
        self._number += 1
        return self._number

    def get(self, fault):
        if fault.own_cluster:
            self._own = Postgres(fault.cluster_settings).start()
            return self._own
        if not self._shared:
            self._shared = Postgres().start()
        return self._shared

    def after_round(self, sound):
        """What a round may have hurt is not used again."""
        if self._own:
            self._own.close()
            self._own = None
        if not sound and self._shared:
            self._shared.close()
            self._shared = None

    def close(self):
        self.after_round(False)


def repeat_command(fault, kind, seed, full):
    return f"./dev torture --seed {seed} --rounds 1 --only {fault.name} --database {kind}" + ("" if full else " --small")


def figures_line(figures):
    return (f"{figures.injected:>5} injected {figures.sent:>7} sent {figures.acknowledged:>7} acknowledged "
            f"{figures.found:>7} found {figures.duplicated:>3} duplicated {figures.lost:>3} lost")


def run_round(number, fault, kind, seed, full, clusters):
    """The figures, and whether every promise was kept."""
    print(f"round {number:<4} {fault.name:<24} {kind:<11}", end=" ", flush=True)
    began = time.monotonic()
    trial = Trial(fault, kind, seed, random.Random(f"{seed}/{fault.name}/{kind}"), full, clusters)
    try:
        fault.run(trial)
    except KeyboardInterrupt:
        trial.close()
        raise
    except Exception as error:
        repeat, whole = repeat_command(fault, kind, seed, full), traceback.format_exc()
        kept = trial.close(keep=True)
        (kept / "torture.txt").write_text(f"{repeat}\n\n{whole}")
        print(f"VIOLATION\n{whole[-1500:] if not isinstance(error, AssertionError) else str(error)[:3000]}")
        print(f"the log's end:\n{trial.server.log()[-1500:]}\nkept, with what was sent, the trace of this and the log: {kept}")
        print(f"repeat: {repeat}", flush=True)
        return trial.figures, False
    trial.close()
    print(f"{figures_line(trial.figures)} {time.monotonic() - began:6.1f} s", flush=True)
    return trial.figures, True


def print_table(faults, figures, skipped, violations):
    print("\n| fault | database | rounds | faults injected | events sent | acknowledged | found | duplicated | lost | dead letters |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for fault in faults:
        if fault.name in skipped:
            print(f"| {fault.title} | not tried: {skipped[fault.name]} |")
        for kind in KINDS:
            if (fault.name, kind) not in figures:
                continue
            sums = figures[fault.name, kind]
            print(f"| {fault.title} | {kind} | {sums.rounds} | {sums.injected:,} | {sums.sent:,} | {sums.acknowledged:,} | "
                  f"{sums.found:,} | {sums.duplicated:,} | {sums.lost:,} | {sums.destroyed:,} |")
    total = Figures()
    for sums in figures.values():
        total.add(sums)
    print(f"\n{total.rounds} rounds, {total.injected:,} faults injected, {total.sent:,} events sent, "
          f"{total.acknowledged:,} acknowledged, {total.found:,} found, {total.duplicated:,} duplicated, {total.lost:,} lost; "
          f"{violations} violation{'' if violations == 1 else 's'}")


def parse(arguments, faults):
    parser = argparse.ArgumentParser(prog="./dev torture", description="Faults, and the proof that nothing was lost.")
    parser.add_argument("--seed", type=int, help="a number; without it a random one, which is printed")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, help="begin no round after that (10)")
    length.add_argument("--rounds", type=int, help="so many rounds")
    parser.add_argument("--database", choices=(*KINDS, "both"), default="both")
    parser.add_argument("--only", metavar="FAULT,…", help="only these: " + ", ".join(fault.name for fault in faults))
    parser.add_argument("--small", action="store_true", help="rounds of a second or two, each fault once: as in ./dev test")
    chosen = parser.parse_args(arguments)
    names = chosen.only.split(",") if chosen.only else [fault.name for fault in faults if fault.bounded or not chosen.small]
    unknown = sorted(set(names) - {fault.name for fault in faults})
    if unknown:
        parser.error(f"no such fault: {', '.join(unknown)}")
    return chosen, [fault for fault in faults if fault.name in names]


def plan(faults, database, small, seed):
    """Endlessly (fault, database): every fault once, then every fault once on its other database, and so on; the second
    time round in another order. Small, each fault once on one of its databases."""
    source = random.Random(seed)
    turn = 0
    while True:
        order = list(faults)
        if turn and not small:
            source.shuffle(order)
        for place, fault in enumerate(order):
            kinds = [kind for kind in fault.databases if database in (kind, "both")]
            if kinds:
                yield fault, kinds[(place + turn if small else turn) % len(kinds)]
        turn += 1


def main(arguments):
    every_fault = load_table()
    chosen, faults = parse(arguments, every_fault)
    seed = chosen.seed if chosen.seed is not None else random.SystemRandom().randrange(10**9)
    print(f"seed {seed}", flush=True)
    skipped = {fault.name: reason for fault in faults if (reason := fault.unavailable())}
    for name, reason in skipped.items():
        print(f"not tried: {name}: {reason}")
    tried = [fault for fault in faults
             if fault.name not in skipped and (chosen.database == "both" or chosen.database in fault.databases)]
    rounds = chosen.rounds or (len(tried) if chosen.small else None)
    deadline = None if rounds else time.monotonic() + 60 * (chosen.minutes or 10)
    figures, violations, number = {}, 0, 0
    clusters = Clusters()
    try:
        for fault, kind in plan(tried, chosen.database, chosen.small, seed) if tried else ():
            if number == rounds or (deadline and time.monotonic() > deadline):
                break
            sums, sound = run_round(number + 1, fault, kind, seed + number, not chosen.small, clusters)
            figures.setdefault((fault.name, kind), Figures()).add(sums)
            violations += not sound
            number += 1
            clusters.after_round(sound)
    except KeyboardInterrupt:
        print("\ninterrupted")
    finally:
        clusters.close()
    print_table(faults, figures, skipped, violations)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
