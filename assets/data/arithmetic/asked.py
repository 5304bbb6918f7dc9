"""The training sums in smaller steps, the same asked in other words, the smallest sums and everyday ones: writes five files
into derived/ beside this file.

    python3 assets/data/arithmetic/asked.py

small.jsonl.zst: each problem of train.jsonl.zst that is not held out for validation, its products and quotients of numbers
over twelve in the steps of `../reasoning/smaller_steps.py`. asked.jsonl.zst: each of those once, in a wording drawn by its
number; thought and answer stay. steps.jsonl.zst: every different step of those thoughts, eight to a line, as plain text.
facts.jsonl.zst: what two numbers up to twelve make, added, subtracted and multiplied, which the pack hardly asks, in four
wordings each. everyday.jsonl.zst: sums, differences, products and exact
quotients of larger numbers, round ones above all (`100 - 1`, `25 * 4`), and percentages, halves and doubles, with the steps of
`../reasoning/smaller_steps.py`.
What a test or validation problem of either pack asks, in whichever words, is left out of all. Needs the `zstd` command.
"""

import hashlib
import itertools
import pathlib
import random
import re
import sys

HERE = pathlib.Path(__file__).parent
sys.path.append(str(HERE.parent / "reasoning"))

import smaller_steps

SEED = 20261127
# As data/src/part.rs: a problem is held out when the first byte of the hash of its question is below this.
HELD_OUT = 8

SUMS = [
    "{e}",
    "{e} =",
    "{e} = ?",
    "{t}",
    "{t}=",
    "{t}=?",
    "How much is {e}?",
    "how much is {e}",
    "what is {e}",
    "What's {e}?",
    "what's {e}",
    "Compute {e}.",
    "calculate {e}",
    "Solve {e}.",
    "What does {e} make?",
    "Please calculate {e}.",
]
SPOKEN = ["{w}", "What is {w}?", "what is {w}", "what's {w}", "How much is {w}?", "Calculate {w}."]
# The largest number of a fact, and in how many wordings each is asked.
LARGEST_FACT, WORDINGS_OF_FACT = 12, 4
# Everyday problems of each sign, and the numbers that they are mostly about.
EVERYDAY = 1200
ROUND = [*range(10, 101, 10), *range(100, 1001, 100), 15, 25, 35, 45, 75, 99, 101, 120, 125, 150, 250, 365, 750, 999, 2000]
# Everyday shares of a number, how they are asked for, and the percentages.
SHARES = 900
PERCENT = ["What is {p}% of {n}?", "{p}% of {n}", "what is {p} % of {n}", "How much is {p}% of {n}?", "{p} percent of {n}"]
HALF = ["What is half of {n}?", "half of {n}", "What's half of {n}?"]
DOUBLE = ["What is double {n}?", "double {n}", "What is twice {n}?", "twice {n}"]
PERCENTAGES = [5, 10, 15, 20, 25, 30, 40, 50, 60, 70, 75, 80, 90]
# How often an expression is spoken, and how often its products are written with a cross.
SHARE_SPOKEN, SHARE_CROSSED = 0.3, 0.2
WORDS = {"+": "plus", "-": "minus", "*": "times", "/": "divided by"}
LEGS = [
    "How many legs do {a} have?",
    "how many legs do {a} have",
    "How many legs have {a}?",
    "How many legs are there on {a}?",
    "Count the legs of {a}.",
    "Number of legs of {a}?",
    "{a}: how many legs?",
    "I see {a}. How many legs do I see?",
]


def lines(name):
    """The problems of a file: question, record."""
    for record in smaller_steps.lines(HERE / name):
        yield record["messages"][0]["content"], record


def asked(question):
    """What a question is about: an expression, or animals."""
    for pattern in [r"What is (.*)\?", r"Calculate (.*)\.", r"How many legs do (.*) have in total\?"]:
        found = re.fullmatch(pattern, question)
        if found:
            return found[1]
    raise SystemExit(f"unknown wording: {question!r}")


def is_held_out(question):
    return hashlib.sha256(question.encode()).digest()[0] < HELD_OUT


def worded(about, is_sum, draw):
    if not is_sum:
        return draw.choice(LEGS).format(a=about)
    if draw.random() < SHARE_SPOKEN:
        # A sign before a number belongs to it; between two it is an operator.
        spoken = re.sub(r" ([-+*/]) ", lambda found: f" {WORDS[found[1]]} ", about)
        return draw.choice(SPOKEN).format(w=spoken)
    if draw.random() < SHARE_CROSSED:
        about = about.replace(" * ", " x ")
    return draw.choice(SUMS).format(e=about, t=about.replace(" ", ""))


def write(name, records):
    smaller_steps.write(HERE / "derived" / name, records)


def smaller(step):
    """A step as the other pack would write it: more than one, where there is a product of large numbers."""
    found = re.fullmatch(r"(\d+) ([*/]) (\d+) = \d+", step)
    if not found:
        return [step]
    a, b = int(found[1]), int(found[3])
    if found[2] == "*":
        return smaller_steps.multiplied(a, b)
    return [step if smaller_steps.is_fact(a, b) else smaller_steps.divided(a, b)]


def in_smaller_steps(record):
    """A problem with other steps to the same answer, and those steps."""
    question, reply = record["messages"]
    steps = [one for step in smaller_steps.thought_of(record) for one in smaller(step)]
    thought = ". ".join(map(smaller_steps.check, steps))
    return {**record, "messages": [question, {**reply, "content": f"<think>{thought}.</think>{record['answer']}"}]}, steps


def facts(kept_apart):
    """What two small numbers make, in wordings that differ from each other."""
    results = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b}
    numbers = range(LARGEST_FACT + 1)
    for (sign, result), a, b in itertools.product(results.items(), numbers, numbers):
        about, answer = f"{a} {sign} {b}", str(result(a, b))
        if about in kept_apart:
            continue
        draw = random.Random(f"{SEED}/{about}")
        asked_as = set()
        while len(asked_as) < WORDINGS_OF_FACT:
            asked_as.add(worded(about, True, draw))
        reply = {"role": "assistant", "content": f"<think>{about} = {answer}.</think>{answer}"}
        for question in sorted(asked_as):
            turn = {"role": "user", "content": question}
            yield {"messages": [turn, reply], "answer": answer, "template": "fact"}


def everyday(kept_apart):
    """Sums of larger numbers, each once, with their steps."""
    draw = random.Random(f"{SEED}/everyday")
    seen = set()
    for sign in ["+", "-", "*", "/"] * EVERYDAY:
        about = None
        while about is None or about in kept_apart or about in seen:
            a = draw.choice([draw.choice(ROUND), draw.choice(ROUND), draw.randint(1, 100), draw.randint(1, 999)])
            b = draw.choice([draw.choice(ROUND), draw.randint(1, 12), draw.randint(1, 100), draw.randint(1, 999)])
            if sign in "*/":
                a, b = draw.choice([min(a, 100), draw.randint(2, 100)]), draw.choice([draw.randint(2, 12), 10, 20, 25, 50, 100])
                if sign == "*" and draw.random() < 0.5:
                    a, b = b, a
            about = f"{a * b} / {b}" if sign == "/" else f"{a} {sign} {b}"
        seen.add(about)
        steps = {
            "+": lambda: [f"{about} = {a + b}"],
            "-": lambda: [f"{about} = {a - b}"],
            "*": lambda: smaller_steps.multiplied(a, b),
            "/": lambda: [smaller_steps.divided(a * b, b)],
        }[sign]()
        answer = str(a if sign == "/" else smaller_steps.value(about).numerator)
        reply = {"role": "assistant", "content": f"<think>{'. '.join(map(smaller_steps.check, steps))}.</think>{answer}"}
        turn = {"role": "user", "content": worded(about, True, draw)}
        yield {"messages": [turn, reply], "answer": answer, "template": "everyday"}


def shares(kept_apart):
    """Percentages, halves and doubles of everyday numbers, each once, with their steps."""
    draw = random.Random(f"{SEED}/shares")
    seen = set()
    while len(seen) < SHARES:
        kind, percent = draw.choice(["percent", "half", "double"]), draw.choice(PERCENTAGES)
        n = draw.choice([draw.choice(ROUND), draw.randint(1, 100 if kind == "percent" else 500)])
        factor, divisor = {"percent": (percent, 100), "half": (1, 2), "double": (2, 1)}[kind]
        asks = [f"{n} / 2"] if kind == "half" else [f"{n} * {factor}", f"{factor} * {n}"]
        if n * factor % divisor > 0 or not kept_apart.isdisjoint(asks) or (kind, n, factor) in seen:
            continue
        seen.add((kind, n, factor))
        product, answer = n * factor, n * factor // divisor
        steps = {
            "percent": lambda: [*smaller_steps.multiplied(n, percent), f"{product} / 100 = {answer}"],
            "half": lambda: [f"{n} / 2 = {answer}"],
            "double": lambda: [f"{n} * 2 = {answer}"],
        }[kind]()
        wordings = {"percent": PERCENT, "half": HALF, "double": DOUBLE}[kind]
        reply = {"role": "assistant", "content": f"<think>{'. '.join(map(smaller_steps.check, steps))}.</think>{answer}"}
        turn = {"role": "user", "content": draw.choice(wordings).format(p=percent, n=n)}
        yield {"messages": [turn, reply], "answer": str(answer), "template": kind}


def main():
    train = list(lines("train.jsonl.zst"))
    kept_apart = {asked(question) for question, _ in lines("test.jsonl")}
    kept_apart |= {asked(question) for question, _ in train if is_held_out(question)}
    for split in ("test", "validation"):
        for question, record in lines(f"../reasoning/{split}.jsonl"):
            if record["template"] == "products":
                a, b = re.findall(r"\d+", question)
                kept_apart |= {f"{a} * {b}", f"{b} * {a}"}
    small, out, steps = [], [], {}
    for number, (question, record) in enumerate(train):
        about = asked(question)
        if about in kept_apart:
            continue
        record, found = in_smaller_steps(record)
        small.append(record)
        steps |= dict.fromkeys(found)
        draw = random.Random(f"{SEED}/{number}")
        turn = {"role": "user", "content": worded(about, record["template"] != "leg_counting", draw)}
        out.append({**record, "messages": [turn, *record["messages"][1:]]})
    write("small.jsonl.zst", small)
    write("asked.jsonl.zst", out)
    rows = smaller_steps.shuffled(list(steps), smaller_steps.STEPS_OF_LINE, random.Random(SEED))
    write("steps.jsonl.zst", [{"text": " ".join(f"{step}." for step in row)} for row in rows])
    print(f"{len(steps)} steps")
    write("facts.jsonl.zst", list(facts(kept_apart)))
    write("everyday.jsonl.zst", [*everyday(kept_apart), *shares(kept_apart)])


if __name__ == "__main__":
    main()
