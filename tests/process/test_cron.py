"""Cron expressions and zones against arithmetic that is not ours: croniter's for the expressions, zoneinfo's for the clocks. Which
days an expression names where both day fields are given, and what becomes of a time that the clock skips or shows twice, is
Debian's cron's rule (crontab(5), cron(8)), which croniter has otherwise."""

import random
import subprocess
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from harness import BIN

croniter = pytest.importorskip("croniter").croniter

CASES = 10_000
PARTS = 4
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "America/St_Johns", "Africa/Casablanca",
         "Pacific/Apia", "America/Sao_Paulo", "Asia/Kathmandu", "Europe/Dublin", "Africa/Cairo", "America/Santiago", "Atlantic/Azores"]
MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
DAYS = "sun mon tue wed thu fri sat".split()
FIRST, LAST = 1_262_304_000, 1_735_689_600  # 2010 to 2025: what zones did is known
CORRECTION = timedelta(hours=3)  # a larger change of the clock is no daylight saving time


def random_field(source, low, high, names=()):
    kind = source.random()
    if kind < 0.35:
        return "*"
    if kind < 0.45:
        return f"*/{source.randint(1, high)}"

    def element():
        first = source.randint(low, high)
        kind = source.random()
        if kind < 0.6:
            index = first - low
            return names[index] if index < len(names) and source.random() < 0.4 else str(first)
        last = source.randint(first, high)
        return f"{first}-{last}" if kind < 0.85 else f"{first}-{last}/{source.randint(1, 5)}"

    return ",".join(element() for _ in range(source.choice([1, 1, 1, 2, 3])))


def random_expression(source):
    return " ".join([random_field(source, 0, 59), random_field(source, 0, 23), random_field(source, 1, 31),
                     random_field(source, 1, 12, MONTHS), random_field(source, 0, 7, DAYS)])


def changes_of(zone):
    """Moments after which the clock of a zone is another one."""
    step = 86_400 * 7
    found = []
    for at in range(FIRST, LAST, step):
        low, high = at, at + step
        offset = offset_at(zone, low)
        if offset_at(zone, high) == offset:
            continue
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if offset_at(zone, middle) == offset else (low, middle)
        found.append(high)
    return found


def offset_at(zone, seconds):
    return datetime.fromtimestamp(seconds, zone).utcoffset()


def random_cases(part):
    source = random.Random(part)
    changes = {name: changes_of(ZoneInfo(name)) for name in ZONES}
    for _ in range(CASES // PARTS):
        name = source.choice(ZONES)
        after = source.randint(FIRST, LAST)
        if changes[name] and source.random() < 0.3:  # a day about a change
            after = source.choice(changes[name]) + source.randint(-86_400, 3_600)
        yield name, random_expression(source), after


def moments_of(local, zone, at_fixed_times):
    """When a clock shows this time, as an expression that names it is due."""
    first = local.replace(tzinfo=zone).astimezone(timezone.utc)
    second = local.replace(tzinfo=zone, fold=1).astimezone(timezone.utc)
    if first == second:
        return [first]
    is_small = at_fixed_times and abs(first - second) < CORRECTION
    if first.astimezone(zone).replace(tzinfo=None) == local:  # shown twice
        return [first] if is_small else [first, second]
    if not is_small:
        return []
    low, high = int(second.timestamp()) - 7_200, int(first.timestamp()) + 7_200  # skipped: right after the change
    before = offset_at(zone, low)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if offset_at(zone, middle) == before else (low, middle)
    return [datetime.fromtimestamp(high, timezone.utc)]


def first_due(zone, expression, after):
    """As the oracle has it; None: it is not due within some years."""
    words = expression.split()
    at_fixed_times = not words[0].startswith("*") and not words[1].startswith("*")
    parts = [words]
    if not words[2].startswith("*") and not words[4].startswith("*"):
        parts = [[*words[:4], "*"], [*words[:2], "*", *words[3:]]]
    due = [first_due_of(zone, " ".join(part), after, at_fixed_times) for words in parts for part in in_safe_days(words)]
    return min((time for time in due if time is not None), default=None)


def in_safe_days(words):
    """A list with a day that a month lacks makes croniter 1.3 skip the days before it in the next month: each of those by itself."""
    days = croniter.expand(" ".join(words))[0][2]
    if days == ["*"]:
        return [words]
    safe = ",".join(str(day) for day in days if day <= 28)
    fields = ([safe] if safe else []) + [str(day) for day in days if day > 28]
    return [[*words[:2], field, *words[3:]] for field in fields]


def first_due_of(zone, expression, after, at_fixed_times):
    local = datetime.fromtimestamp(after, zone).replace(tzinfo=None)
    far = timedelta(hours=30)
    offset = offset_at(zone, after)
    is_near = any(offset_at(zone, after + hours * 3_600) != offset for hours in range(-30, 31, 3))
    times = croniter(expression, local - (far if is_near else timedelta(0)), day_or=False)
    best = None
    try:
        while True:
            shown = times.get_next(datetime)
            if best and shown > best.astimezone(zone).replace(tzinfo=None) + (far if is_near else timedelta(hours=4)):
                break
            for moment in moments_of(shown, zone, at_fixed_times):
                if moment.timestamp() > after and (best is None or moment < best):
                    best = moment
            if best and not is_near and offset_at(zone, best.timestamp()) == offset:
                break
    except Exception as error:  # croniter's own, by which it says that there is none
        if type(error).__name__ != "CroniterBadDateError":
            raise
    return int(best.timestamp()) if best else None


@pytest.mark.parametrize("part", range(PARTS))
def test_random_expressions_are_due_when_the_oracle_says(part):
    cases = list(random_cases(part))
    asked = "".join(f"{zone}\t{expression}\t{after}\n" for zone, expression, after in cases)
    answers = subprocess.run([BIN / "cron_probe"], input=asked, capture_output=True, text=True, timeout=300, check=True).stdout
    wrong = []
    for (name, expression, after), answer in zip(cases, answers.splitlines(), strict=True):
        due = first_due(ZoneInfo(name), expression, after)
        if due is None:
            is_right = not answer.isdigit()
        else:
            is_right = answer == str(due)
        if not is_right:
            wrong.append((name, expression, after, due, answer))
    assert not wrong, f"{len(wrong)} of {len(cases)}: {wrong[:5]}"
