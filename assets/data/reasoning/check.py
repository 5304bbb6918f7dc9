"""Checks the files of this pack without the package that they come from.

    question --ANSWERS[kind]--> the answer, worked out again from the words alone
    thought  --FORMS----------> each sentence must have a known form and be true of the question

No question may stand in two splits, nor in the arithmetic pack.

    pip install zstandard==0.25.0
    python check.py
"""

import json
import math
import re
from collections import Counter
from datetime import timedelta
from fractions import Fraction
from functools import cache
from itertools import product
from pathlib import Path

import zstandard

import smaller_steps

HERE = Path(__file__).parent
FILES = ["train.jsonl.zst", "validation.jsonl", "test.jsonl", "test_unseen_kinds.jsonl"]
OTHERS = ["../arithmetic/train.jsonl.zst", "../arithmetic/test.jsonl"]
WEEK = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


def read(path):
    data = path.read_bytes()
    if path.suffix == ".zst":
        data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return [json.loads(line) for line in data.decode().splitlines()]


def numbers(text):
    return [int(number) for number in re.findall(r"-?\d+", text)]


def value(text, unknown=None):
    """A number, or a chain of `a op b` with * and / before + and -, exactly; a letter is the unknown."""
    return smaller_steps.value(re.sub(r"\b[a-z]\b", str(unknown), text))


# Answers from questions


def factors(number):
    least = next(d for d in range(2, number + 1) if number % d == 0)
    return [least] + (factors(number // least) if least < number else [])


def in_base(number, base):
    return (in_base(number // base, base) if number >= base else "") + str(number % base)


def convert(question):
    if found := re.search(r"base (\d+) number (\d+) in base 10", question):
        return str(int(found[2], int(found[1])))
    return in_base(*numbers(question))


def solve(question):
    left, right = re.split(r": | if ", question, maxsplit=1)[1].rstrip("?").split(" = ")
    return " or ".join(str(x) for x in range(1, 200) if value(left, x) == value(right))


def listed(question):
    """The numbers or words of a list, and the question without it."""
    found = re.search(r"\d+(?:, \d+)+|[a-z]+(?:, [a-z]+)+", question)
    return found[0].split(", "), question.replace(found[0], "")


def sort_numbers(question):
    items, words = listed(question)
    is_down = "largest first" in words or "from largest" in words
    return " ".join(sorted(items, key=int, reverse=is_down))


def filter_numbers(question):
    what, size, limit = re.match(r"(Keep|Remove) all numbers (\w+) than (\d+)", question).groups()
    items = question.split(": ")[1].split(", ")
    named = [(int(item) > int(limit) if size == "larger" else int(item) < int(limit)) for item in items]
    return " ".join(item for item, is_named in zip(items, named) if is_named == (what == "Keep")) or "none"


def minutes(question):
    start, end = (timedelta(hours=int(h), minutes=int(m)) for h, m in re.findall(r"(\d\d):(\d\d)", question))
    return str((end - start) // timedelta(minutes=1))


def weekday(question):
    day, count = WEEK.index(re.search(r"is (\w+)\.", question)[1]), numbers(question)[0]
    return WEEK[(day + (-count if "ago" in question else count)) % 7]


def is_child(child, parent, question):
    couples = re.findall(r"(\w+) is married to (\w+)\. They have [\w ]+? called ([\w, ]+)\.", question)
    return any(parent in (a, b) and child in re.split(", | and ", children) for a, b, children in couples)


def kin(one, other, question):
    """The words for what one is to the other: for a man, for a woman."""
    people = set(re.findall(r"[A-Z]\w+", question))
    up = {who: {parent for parent in people if is_child(who, parent, question)} for who in (one, other)}
    if f"{one} is married to {other}." in question or f"{other} is married to {one}." in question:
        return "husband", "wife"
    if one in up[other]:
        return "father", "mother"
    if other in up[one]:
        return "son", "daughter"
    if up[one] & up[other]:
        return "brother", "sister"
    return ("grandfather", "grandmother") if any(is_child(parent, one, question) for parent in up[other]) else ()


def asked_pair(question):
    return re.search(r"(?:What|How) is (\w+) (?:related )?to (\w+)\?", question).groups()


def holds(statement, world):
    """Whether a statement is true in a world: a list of things, each the set of what it is."""
    how, a, negation, b = statement
    both = [(b in thing) != bool(negation) for thing in world if a in thing]
    return {"all": all(both), "no": not any(both), "some": any(both)}[how]


@cache
def entails_named(premises, conclusion):
    """Whether the conclusion is true in every world that has things of all kinds and keeps the premises."""
    names = sorted({name for _, a, _, b in (*premises, conclusion) for name in (a, b)})
    things = [{name for name, has in zip(names, bits) if has} for bits in product([0, 1], repeat=len(names))]
    for bits in product([0, 1], repeat=len(things)):
        world = [thing for thing, has in zip(things, bits) if has]
        is_full = set().union(*world) == set(names)
        if is_full and all(holds(premise, world) for premise in premises) and not holds(conclusion, world):
            return False
    return True


def entails(premises, conclusion):
    """The same for texts; names are numbered, so that few forms have to be worked out."""
    form = re.compile(r"(all|no|some) (\w+) are (not )?(\w+)")
    parts = [form.fullmatch(text.lower()).groups() for text in (*premises, conclusion)]
    order = list(dict.fromkeys(name for part in parts for name in part[1::2]))
    forms = [(how, order.index(a), negation, order.index(b)) for how, a, negation, b in parts]
    return entails_named(tuple(forms[:-1]), forms[-1])


def premises(question):
    return re.findall(r"\d\. ([^.]+)\.", question)


def conclusion(question):
    return question.split("follow that ")[1].rstrip("?")


def least_terms(question):
    fraction = Fraction(*numbers(question))
    return f"{fraction.numerator} over {fraction.denominator}"


def whose(question):
    story, what = question.split(" Who ")
    return [line.split(" ")[0] for line in story.rstrip(".").split(". ") if line.split(" ", 1)[1] + "?" == what]


ANSWERS = {
    "gcd": lambda question: str(math.gcd(*numbers(question))),
    "lcm": lambda question: str(math.lcm(*numbers(question))),
    "fraction_simplification": least_terms,
    "products": lambda question: str(math.prod(numbers(question))),
    "prime_factorization": lambda question: " ".join(map(str, factors(numbers(question)[0]))),
    "decimal_chain_sum": lambda question: str(float(value(re.search(r" ([\d. +-]+)[?.]$", question)[1]))),
    "simple_equations": solve,
    "base_conversion": convert,
    "number_sorting": sort_numbers,
    "number_filtering": filter_numbers,
    "letter_counting": lambda question: str(question.split('"')[1].count(re.search("letter (.) ", question)[1])),
    "spell_backward": lambda question: question.split('"')[1][::-1],
    "word_sorting": lambda question: " ".join(sorted(listed(question)[0], reverse="Z to A" in question)),
    "word_sequence_reversal": lambda question: " ".join(reversed(listed(question)[0])),
    "time_intervals": minutes,
    "calendar_arithmetic": weekday,
    "simple_geometry": lambda question: str(180 * (numbers(question)[0] - 2) - sum(numbers(question)[1:])),
    "needle_haystack": lambda question: " ".join(whose(question)),
    "syllogism": lambda question: "Yes" if entails(premises(question), conclusion(question)) else "No",
}

# Sentences of thoughts


def equation(found, question, answer):
    text = found[0]
    if parts := re.fullmatch(r"(\d+) / (\d+) = (\d+) r (\d+)", text):
        return divmod(int(parts[1]), int(parts[2])) == (int(parts[3]), int(parts[4]))
    if parts := re.fullmatch(r"(\d+) = (\d+) \* (\d+) \+ (\d+)", text):
        return divmod(int(parts[1]), int(parts[3])) == (int(parts[2]), int(parts[4]))
    unknowns = set(re.findall(r"\b[a-z]\b", text))
    is_asked = all(re.search(rf"for {name}:|is {name} if", question) for name in unknowns)
    return is_asked and len({value(side, answer) for side in text.split(" = ")}) == 1


def compared(found, question, answer):
    a, sign, b, verdict = int(found[1]), found[2], int(found[3]), found[4]
    is_true = {"<": a < b, ">": a > b, "=": a == b}[sign]
    is_asked = f"than {b}:" in question and a in numbers(question.split(": ")[1])
    return is_true and is_asked and (verdict == "keep") == (found[1] in answer.split(" "))


def gap(found, question, answer):
    a, b, factor, step = int(found[1]), int(found[2]), found[3], int(found[4])
    return f"{a}, {b}" in question and (a * step if factor else a + step) == b


def taken(found, question, answer):
    """The numbers left, in the order of the question; the one that the answer names next."""
    left, order = found[1].split(", "), answer.split(" ")
    gone = order[: len(order) - len(left)]
    return left == [item for item in listed(question)[0] if item not in gone] and found[2] == order[len(gone)]


def spelled(found, question, answer):
    word, letters, count = found[1], found[2].replace(" ", ""), found[3]
    if count is None:
        return letters == (answer if word == "backward" else word)
    letter, words = re.search("letter (.) ", question)[1], question.split('"')[1].split(" ")
    counts = ["".join(words[: at + 1]).count(letter) for at in range(len(words)) if words[at] == word]
    return letters == word and int(count) in counts


def first_letters(found, question, answer):
    words = listed(question)[0] if found[1] == "first letters" else answer.split(" ")
    return found[2] == ", ".join(word[0] for word in words)


def told(found, question, answer):
    given, asked = [premises(question)[int(at) - 1] for at in re.findall(r"\d", found[1])], conclusion(question)
    if found[2] != "nothing":
        return entails(given, found[2])
    a, b = re.fullmatch(r"\w+ (\w+) are (?:not )?(\w+)", asked).groups()
    every = [f"all {a} are {b}", f"no {a} are {b}", f"some {a} are {b}", f"some {a} are not {b}"]
    return not any(entails(given, one) for one in every)


def gender(found, question, answer):
    one, other = asked_pair(question)
    is_known = GENDERS.setdefault(one, found[2]) == found[2]
    return one == found[1] and is_known and kin(one, other, question)[found[2] == "female"] == answer


def prime(found, question, answer):
    return factors(int(found[1])) == [int(found[1])] and answer.endswith(f" {found[1]}")


def days(found, question, answer):
    count, step, day = int(found[1]), 1 if found[2] == "after" else -1, WEEK.index(found[3])
    path = [WEEK[(day + step * n) % 7] for n in range(1, count + 1)] or [found[3]]
    return found[4] == ", ".join(path) and path[-1] == answer


GENDERS = {}  # of each name, as first told
FORMS = [
    (r"(\d+) ([<>=]) (\d+): (keep|drop)", compared),
    (r"[\d.a-z +*/=-]+ = .+", equation),
    (r"(\d+) is prime", prime),
    (r"(-?\d+) to (-?\d+): (\* )?(-?\d+)", gap),
    (r"([\d, ]+): take (\d+)", taken),
    (r"([a-z]+): ([a-z](?: [a-z])*)(?:, (\d+))?", spelled),
    (r"(first letters|A to Z|Z to A): ([a-z, ]+)", first_letters),
    (r"(\d) (after|before) (\w+): ([\w, ]+)", days),
    (r"(\d): ([a-z]+)", lambda found, question, answer: listed(question)[0][int(found[1]) - 1] == found[2]),
    (r"from (1|2|1 and 2): (.+)", told),
    (r"so (.+)", lambda found, question, answer: entails(premises(question), found[1])),
    (r"asked: (.+)", lambda found, question, answer: found[1] == conclusion(question)),
    (r"(\w+) is a child of (\w+)", lambda found, question, answer: is_child(found[1], found[2], question)),
    (
        r"(\w+) and (\w+) are children of (\w+)",
        lambda found, question, answer: all(is_child(found[at], found[3], question) for at in (1, 2)),
    ),
    (r"(\w+) and (\w+) are married", lambda found, question, answer: "wife" in kin(found[1], found[2], question)),
    (r"(\w+) is (male|female)", gender),
    (r".+", lambda found, question, answer: f"{found[0]}." in question),  # said in the question
]


def check(line):
    """What is wrong with a line, or None."""
    question, reply = (message["content"] for message in line["messages"])
    thought, answer = re.fullmatch("<think>(.+)\\.</think>(.+)", reply).groups()
    if answer != line["answer"]:
        return "two answers"
    solver = ANSWERS.get(line["template"])
    if solver is not None and solver(question) != answer:
        return f"the answer is {solver(question)}"
    if line["template"] == "number_sequence" and answer != thought.split(" ")[-1]:
        return "the thought ends elsewhere"
    for sentence in thought.split(". "):
        found, is_true = next((found, is_true) for form, is_true in FORMS if (found := re.fullmatch(form, sentence)))
        if not is_true(found, question, answer):
            return f"not true: {sentence}"
    return None


def main():
    seen = {line["messages"][0]["content"].lower(): name for name in OTHERS for line in read(HERE / name)}
    for name in FILES:
        lines = read(HERE / name)
        for line in lines:
            question = " ".join(line["messages"][0]["content"].lower().split())
            wrong = check(line)
            if wrong is None and question in seen:
                wrong = f"also in {seen[question]}"
            if wrong is not None:
                raise SystemExit(f"{name}: {wrong}: {json.dumps(line)}")
            seen[question] = name
        kinds = Counter(line["template"] for line in lines)
        print(f"{name}: {len(lines)} lines are right; {', '.join(f'{n} {kind}' for kind, n in sorted(kinds.items()))}")


if __name__ == "__main__":
    main()
