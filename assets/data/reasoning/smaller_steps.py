"""The training problems with thoughts in smaller steps, and such steps alone: writes three files into derived/ beside this file.

    python3 assets/data/reasoning/smaller_steps.py

    train.jsonl.zst --a function per kind--> small.jsonl.zst    the same problems, other thoughts
                    --steps----------------> drills.jsonl.zst   eight to a line, as plain text
                    --words----------------> spelt.jsonl.zst    four to a line, asked to be spelt

A step of these thoughts asks for one thing that a small model can know (`2 * 42 = 80 + 4 = 84`), or copies in
the order in which it stands: a story is gone through from its beginning, rather than looked up. Questions and
answers stay as they are. Every equation is worked out again before it is written; words that a test or validation
problem asks to be spelt backwards are not among the spelt. Needs the `zstd` command.
"""

import json
import pathlib
import random
import re
import subprocess
from fractions import Fraction

HERE = pathlib.Path(__file__).parent
SEED = 20261130
STEPS_OF_LINE, WORDS_OF_LINE = 8, 4
# How often each word is spelt, each time among others.
TIMES_SPELT = 3
# A product or quotient up to here is known by heart; a larger one is taken apart.
LARGEST_FACT = 12


def parts(number, unit):
    """`number` in multiples of powers of ten times `unit`, largest first, and what is left over."""
    found, scale = [], 1
    while unit * scale * 10 <= number:
        scale *= 10
    while scale > 0:
        count = number // (unit * scale)
        if count > 0:
            found.append(unit * scale * count)
        number -= unit * scale * count
        scale //= 10
    return found, number


def equals(left, terms, result):
    """`left = 80 + 4 = 84`, or without its middle where there is one term."""
    return " = ".join([left] + ([" + ".join(map(str, terms))] if len(terms) > 1 else []) + [str(result)])


def times(a, b):
    """One step: `a * b`, with the larger factor in its digits' places."""
    large, small = max(a, b), min(a, b)
    terms = [a * b] if large <= LARGEST_FACT else [part * small for part in parts(large, 1)[0]]
    return equals(f"{a} * {b}", terms, a * b)


def multiplied(a, b):
    """Steps of any product of numbers up to a hundred."""
    if min(a, b) < 10:
        return [times(a, b)]
    tens, ones = b // 10 * 10, b % 10
    steps = [equals(f"{a} * {tens}", [part * tens for part in parts(a, 1)[0]], a * tens)]
    return steps + [times(a, ones), f"{a * tens} + {a * ones} = {a * b}"] if ones > 0 else steps


def divided(a, b):
    """One step, an exact division: a place of the quotient and what it leaves, the next, and the quotient."""
    terms, rest = parts(a, b)
    assert rest == 0
    if a // b <= LARGEST_FACT or len(terms) < 2:
        return f"{a} / {b} = {a // b}"
    left = [a - sum(terms[:at]) for at in range(1, len(terms))]
    places = [f"{term // b} rest {rest}" for term, rest in zip(terms, left)] + [str(terms[-1] // b)]
    return f"{a} / {b}: {', '.join(places)}: {a // b}"


def shared(a, b):
    """Steps of Euclid's algorithm, each beginning with its pair, to a rest of one or none; the greatest common
    divisor; and the larger number divided by it, where the last step has done that."""
    a, b, steps, quotient = max(a, b), min(a, b), [], None
    while b > 1 and (not steps or rest > 0):
        quotient, rest = divmod(a, b)
        steps.append(f"{a} / {b}: {times(quotient, b) if quotient > 1 else b}, rest {rest}")
        a, b, last = b, rest, a
    return (steps, a, last) if b == 0 else (steps, 1, None)


def asked_numbers(question):
    return [int(number) for number in re.findall(r"-?\d+", question)]


def lcm(question, steps, answer):
    a, b = sorted(asked_numbers(question), reverse=True)
    found, divisor, done = shared(a, b)
    if divisor > 1:
        found.append(f"{a} / {divisor} = {a // divisor}" if a == done else divided(a, divisor))
    return found + multiplied(a // divisor, b)


def fraction_simplification(question, steps, answer):
    found, divisor, done = shared(*asked_numbers(question))
    for number in asked_numbers(question):
        found.append(f"{number} / {divisor} = {number // divisor}" if number == done else divided(number, divisor))
    return found


def products(question, steps, answer):
    return multiplied(*asked_numbers(question))


def prime_factorization(question, steps, answer):
    (rest,), found = asked_numbers(question), []
    for factor in map(int, answer.split()[:-1]):
        found.append(divided(rest, factor))
        rest //= factor
    return found + [f"{rest} is prime"]


def base_conversion(question, steps, answer):
    found = []
    for step in steps:
        if " r " in step:
            number, base = map(int, re.match(r"(\d+) / (\d+)", step).groups())
            terms, rest = parts(number, base)
            small = base == 2 or number // base < 10 or len(terms) < 2
            found.append(step if small else f"{number} = {' + '.join(map(str, terms + [rest]))}: {number // base} r {rest}")
        else:
            value, base, digit = map(int, re.match(r"(\d+) \* (\d+) \+ (\d+)", step).groups())
            terms = [value * base] if value <= LARGEST_FACT else [part * base for part in parts(value, 1)[0]]
            found.append(equals(f"{value} * {base} + {digit}", terms + [digit], value * base + digit))
    return found


def calendar_arithmetic(question, steps, answer):
    days = int(re.search(r"\d+", steps[0]).group())
    terms, rest = parts(days, 7)
    return [f"{days} = {' + '.join(map(str, terms + [rest]))}", steps[1]]


def after_letters(words):
    return ", ".join(f"{word[0]} {word}" for word in words)


def word_sorting(question, steps, answer):
    ways, words = question.partition("Z to A" if "Z to A" in question else "A to Z")[1], question.split(": ")[1].split(", ")
    return [after_letters(words), f"{ways}: {after_letters(answer.split())}"]


def needle_haystack(question, steps, answer):
    found = []
    *story, _ = re.split(r"(?<=[.?]) ", question)
    for sentence in story:
        found.append(f"{sentence.rstrip('.')}: {'yes' if sentence.rstrip('.') == steps[0] else 'no'}")
        if found[-1].endswith("yes"):
            return found
    raise ValueError(question)


def family_relationships(question, steps, answer):
    story, one, other = re.fullmatch(r"(.*\.) (?:What is|How is) (\w+) (?:related )?to (\w+)\?", question).groups()
    marks = {one: f"{one} 1", other: f"{other} 2"}
    found = []
    for a, b, children in re.findall(r"(\w+) is married to (\w+)\.(?: They have \w+ ?\w* called ([^.]+)\.)?", story):
        found.append(f"{marks.get(a, a)} and {marks.get(b, b)}")
        if children:
            found[-1] += ": " + ", ".join(marks.get(name, name) for name in re.split(", | and ", children))
    kinds = {"husband wife": "1 and 2 are married", "father mother": "2 is a child of 1", "son daughter": "1 is a child of 2"}
    kinds |= {"brother sister": "1 and 2 are children of two", "grandfather grandmother": "2 is a grandchild of 1"}
    (told,) = [told for words, told in kinds.items() if answer in words.split()]
    return found + [told, steps[-1]]


# Kinds that are not named keep their steps.
SMALLER = [lcm, fraction_simplification, products, prime_factorization, base_conversion]
SMALLER += [calendar_arithmetic, word_sorting, needle_haystack, family_relationships]


def value(text):
    """A number, or a chain of `a op b` with * and / before + and -, exactly."""
    first, *rest = re.split(r" ([+-]) ", text)
    total = multiplied_out(first)
    for sign, part in zip(rest[::2], rest[1::2]):
        total += multiplied_out(part) if sign == "+" else -multiplied_out(part)
    return total


def multiplied_out(text):
    first, *rest = text.split(" ")
    number = Fraction(first)
    for sign, factor in zip(rest[::2], rest[1::2]):
        number = number * Fraction(factor) if sign == "*" else number / Fraction(factor)
    return number


def check(step):
    """Every side of an equation of plain numbers has the same value; a rest is what is left, a quotient exact."""
    equation = step.partition(":")[0]
    if found := re.fullmatch(r"(\d+) / (\d+): (.*), rest (\d+)", step):
        a, b, equation, rest = found.groups()
        assert int(a) - int(rest) == value(equation.split(" = ")[0]) and int(rest) < int(b), step
    if found := re.fullmatch(r"(\d+) / (\d+): (.* rest .*): (\d+)", step):
        a, b, places, quotient = found.groups()
        left, (*places, last) = int(a), places.split(", ")
        for place, rest in (place.split(" rest ") for place in places):
            left -= int(place) * int(b)
            assert left == int(rest), step
        assert left == int(last) * int(b) and int(a) == int(quotient) * int(b), step
    sides = equation.split(" = ")
    if all(re.fullmatch(r"-?[\d.]+(?: [-+*/] -?[\d.]+)*", side) for side in sides):
        assert len({value(side) for side in sides}) == 1, step
    return step


def lines(path):
    """The records of a file, packed or not."""
    data = path.read_bytes()
    if path.suffix == ".zst":
        data = subprocess.run(["zstd", "-dcq"], input=data, capture_output=True, check=True).stdout
    return [json.loads(line) for line in data.decode().splitlines()]


def write(path, records):
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    path.parent.mkdir(exist_ok=True)
    subprocess.run(["zstd", "-19q", "-f", "-o", path], input=text.encode(), check=True)
    print(f"{path.name}: {len(records)} lines, {path.stat().st_size} bytes")


def shuffled(items, size, random_order):
    """All items in a new order, so many at a time."""
    items = random_order.sample(items, len(items))
    return [items[at : at + size] for at in range(0, len(items), size)]


def words_of(kind, question, steps):
    """Words that a problem shows in full: the listed ones, else the first that is spelt."""
    shown = {"word_sorting": question.split(":")[-1], "spell_backward": steps[0], "letter_counting": steps[0]}
    return re.findall(r"[a-z]{3,}", shown.get(kind, "").split(":")[0])


def asked_backwards():
    for name in ("validation.jsonl", "test.jsonl"):
        for record in lines(HERE / name):
            if record["template"] == "spell_backward":
                yield re.search('"(.*)"', record["messages"][0]["content"]).group(1)


def spelt(words):
    """A question that asks for words letter by letter, and its answer."""
    question = f"Spell these words: {', '.join(words)}"
    answer = " ".join(f"{word}: {' '.join(word)}." for word in words)
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": turns, "template": "spelt"}


def main():
    smaller = {function.__name__: function for function in SMALLER}
    problems, steps, words = lines(HERE / "train.jsonl.zst"), {}, {}
    for record in problems:
        kind, question, answer = record["template"], record["messages"][0]["content"], record["answer"]
        thought = re.fullmatch(r"<think>(.*)\.</think>.*", record["messages"][1]["content"]).group(1)
        given = thought.split(". ")
        found = smaller[kind](question, given, answer) if kind in smaller else given
        record["messages"][1]["content"] = f"<think>{'. '.join(map(check, found))}.</think>{answer}"
        steps |= {step: None for step in found if re.match(r"-?\d", step) and (" = " in step or " rest " in step)}
        words |= dict.fromkeys(words_of(kind, question, given))
    kept_apart = set(asked_backwards())
    words = [word for word in words if word not in kept_apart]
    order = random.Random(SEED)
    drills = [{"text": " ".join(f"{step}." for step in some)} for some in shuffled(list(steps), STEPS_OF_LINE, order)]
    questions = [spelt(some) for _ in range(TIMES_SPELT) for some in shuffled(words, WORDS_OF_LINE, order)]
    print(f"{len(steps)} steps, {len(words)} words")
    write(HERE / "derived" / "small.jsonl.zst", problems)
    write(HERE / "derived" / "drills.jsonl.zst", drills)
    write(HERE / "derived" / "spelt.jsonl.zst", questions)


if __name__ == "__main__":
    main()
