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


def signed(number):
    """`+ 7` or `- 7`, as it stands behind another."""
    return f"{'-' if number < 0 else '+'} {abs(number)}"


def equals(left, terms, result):
    """`left = 80 + 4 = 84`, or without its middle where there is one term."""
    middle = [" ".join([str(terms[0]), *map(signed, terms[1:])])] if len(terms) > 1 else []
    return " = ".join([left, *middle, str(result)])


def places(number):
    """`54` as `50, 4`: a digit and its zeros each."""
    return parts(number, 1)[0]


def times(a, b):
    """One step: `a * b`, with the factor of more digits in its places."""
    other, taken_apart = sorted((abs(a), abs(b)), key=lambda factor: (len(places(factor)), factor))
    sign = -1 if a * b < 0 else 1
    terms = [sign * place * other for place in places(taken_apart)] if taken_apart > LARGEST_FACT else [a * b]
    return equals(f"{a} * {b}", terms, a * b)


def multiplied(a, b):
    """Steps of any product of numbers up to a hundred."""
    if min(a, b) < 10:
        return [times(a, b)]
    tens, ones = b // 10 * 10, b % 10
    steps = [times(a, tens)]
    return steps + [times(a, ones), f"{a * tens} + {a * ones} = {a * b}"] if ones > 0 else steps


def divided(a, b):
    """One step, a division: each place of the quotient times the divisor, what that leaves, and in the end the quotient and the
    rest, as in `163 / 3: 50 * 3 = 150, 163 - 150 = 13, 4 * 3 = 12, 13 - 12 = 1: 54 r 1`. Known by heart are halves, fifths by way of
    doubles, and what small numbers divide without a rest."""
    quotient, rest = divmod(a, b)
    if quotient == 0 or b == 2 or is_fact(a, b):
        return f"{a} / {b}: {quotient} r {rest}"
    if b == 5 and rest == 0:
        return f"{a} / 5: {a} * 2 = {a * 2}: {quotient} r 0"
    found, left = [], a
    for place in places(quotient):
        if left < a and is_fact(left, b):
            found.append(f"{left} / {b} = {left // b}")
            break
        if place > 1 or left == b:
            found.append(times(place, b))
        if left > place * b:
            found.append(f"{left} - {place * b} = {left - place * b}")
        left -= place * b
    return f"{a} / {b}: {', '.join(found)}: {quotient} r {rest}"


def is_fact(a, b):
    """Whether a quotient without a rest is known by heart."""
    return a % b == 0 and (b == 10 or max(a // b, b) <= LARGEST_FACT)


def euclid(a, b):
    """Steps of Euclid's algorithm, to a rest of one or none, and the greatest common divisor, which the last step says."""
    a, b = max(a, b), min(a, b)
    steps = [divided(a, b)]
    while a % b > 1:
        a, b = b, a % b
        steps.append(divided(a, b))
    divisor = b if a % b == 0 else 1
    return steps + [f"gcd {divisor}"], divisor


def asked_numbers(question):
    return [int(number) for number in re.findall(r"-?\d+", question)]


def lcm(question, steps, answer):
    a, b = sorted(asked_numbers(question), reverse=True)
    found, divisor = euclid(a, b)
    if divisor > 1:
        found.append(divided(a, divisor))
    return found + multiplied(a // divisor, b)


def fraction_simplification(question, steps, answer):
    found, divisor = euclid(*asked_numbers(question))
    return found + [divided(number, divisor) for number in asked_numbers(question)]


def products(question, steps, answer):
    return multiplied(*asked_numbers(question))


def prime_factorization(question, steps, answer):
    """What is odd has the sum of its digits before it, until three is out of question."""
    (rest,), found = asked_numbers(question), []
    *factors, last = map(int, answer.split())
    for factor in factors:
        if factor > 2 and not found or factor == 3 or found and factor > 3 >= before:
            found.append(f"{' + '.join(str(rest))} = {sum(map(int, str(rest)))}")
        found.append(divided(rest, factor))
        rest, before = rest // factor, factor
    return found + [f"{last} is prime"]


def base_conversion(question, steps, answer):
    """Each division with the digits that are known by then behind it."""
    found, digits = [], ""
    for step in steps:
        if " r " in step:
            number, base = map(int, re.match(r"(\d+) / (\d+)", step).groups())
            digits = f"{number % base}{digits}"
            found.append(f"{divided(number, base)}: {digits}")
        else:
            value, base, digit = map(int, re.match(r"(\d+) \* (\d+) \+ (\d+)", step).groups())
            terms = [value * base] if value <= LARGEST_FACT else [place * base for place in places(value)]
            found.append(equals(f"{value} * {base} + {digit}", terms + [digit], value * base + digit))
    return found


def number_sequence(question, steps, answer):
    """All gaps first; what they show; and the next number."""
    terms, answer = asked_numbers(question), int(answer)
    gaps = [b - a for a, b in zip(terms, terms[1:])]
    found = [f"{b} {signed(-a)} = {b - a}" for a, b in zip(terms, terms[1:])]
    last, gap = terms[-1], answer - terms[-1]
    if len(set(gaps)) == 1:
        return found + [f"all {gap}", f"{last} {signed(gap)} = {answer}"]
    if all(after == 2 * before for before, after in zip(gaps, gaps[1:])):
        return found + ["twice the gap", times(gaps[-1], 2), f"{last} {signed(gap)} = {answer}"]
    if gaps[1:] == terms[:-2]:
        return found + ["the two before", f"{terms[-2]} {signed(last)} = {answer}"]
    ratio = answer // last
    assert all(after == ratio * before for before, after in zip(terms, terms[1:])), question
    return found + [f"times {ratio}", times(last, ratio)]


def calendar_arithmetic(question, steps, answer):
    days = int(re.search(r"\d+", steps[0]).group())
    return [divided(days, 7), steps[1]]


def spell_backward(question, steps, answer):
    """A letter more each time, put before those that are there."""
    word = answer[::-1]
    return [steps[0]] + [" ".join(word[:count][::-1]) for count in range(2, len(word) + 1)]


def after_letters(words):
    return ", ".join(f"{word[0]} {word}" for word in words)


def word_sorting(question, steps, answer):
    """First letters are sorted alone, then each finds its word: `d c p to c d p`."""
    ways, words = question.partition("Z to A" if "Z to A" in question else "A to Z")[1], question.split(": ")[1].split(", ")
    sorted_words = answer.split()
    letters, sorted_letters = (" ".join(word[0] for word in some) for some in (words, sorted_words))
    return [after_letters(words), f"{ways}: {letters} to {sorted_letters}", after_letters(sorted_words)]


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
SMALLER = [lcm, fraction_simplification, products, prime_factorization, base_conversion, number_sequence, calendar_arithmetic]
SMALLER += [spell_backward, word_sorting, needle_haystack, family_relationships]


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
    """Every side of an equation of plain numbers has the same value; a quotient and its rest are those of what is divided."""
    head, *told = step.split(": ")
    if division := re.fullmatch(r"(\d+) / (\d+)", head):
        a, b = map(int, division.groups())
        equations, result = (told[0].split(", "), told[1]) if " = " in told[0] else ([], told[0])
        quotient, rest = map(int, result.split(" r "))
        assert a == quotient * b + rest and rest < b, step
    else:
        equations = [step.partition(":")[0]]
    for equation in equations:
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


def thought_of(record):
    """The steps of a problem's thought."""
    return re.fullmatch(r"<think>(.*)\.</think>.*", record["messages"][1]["content"]).group(1).split(". ")


def training_words(problems):
    """Every word that the problems show in full, once; none that a held-out problem asks to be spelt backwards."""
    kept_apart, words = set(asked_backwards()), {}
    for record in problems:
        words |= dict.fromkeys(words_of(record["template"], record["messages"][0]["content"], thought_of(record)))
    return [word for word in words if word not in kept_apart]


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
    problems = lines(HERE / "train.jsonl.zst")
    words, steps = training_words(problems), {}
    for record in problems:
        kind, question, answer = record["template"], record["messages"][0]["content"], record["answer"]
        given = thought_of(record)
        found = smaller[kind](question, given, answer) if kind in smaller else given
        record["messages"][1]["content"] = f"<think>{'. '.join(map(check, found))}.</think>{answer}"
        steps |= {step: None for step in found if re.match(r"-?\d", step) and (" = " in step or " r " in step)}
    order = random.Random(SEED)
    drills = [{"text": " ".join(f"{step}." for step in some)} for some in shuffled(list(steps), STEPS_OF_LINE, order)]
    questions = [spelt(some) for _ in range(TIMES_SPELT) for some in shuffled(words, WORDS_OF_LINE, order)]
    print(f"{len(steps)} steps, {len(words)} words")
    write(HERE / "derived" / "small.jsonl.zst", problems)
    write(HERE / "derived" / "drills.jsonl.zst", drills)
    write(HERE / "derived" / "spelt.jsonl.zst", questions)


if __name__ == "__main__":
    main()
