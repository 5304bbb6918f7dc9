"""The kinds of problem: an entry of the gym becomes a question, its steps and an answer.

A function per kind, named like the gym's. It gives None for an entry that would be ambiguous, that
the steps of the kind do not solve, or that the gym itself answers wrongly. Steps are short, each
follows from what stands before it, and most are of a form that other kinds use too. Answers of several
parts are separated by spaces, because graders take commas for a set without order; fractions and times
are asked for in words or minutes, so that only one way of writing them is right.
"""

import re
from collections import namedtuple
from random import Random

from reasoning_gym.graphs.family_relationships import FamilyRelationshipsConfig

WEEK = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MEN = set(FamilyRelationshipsConfig().male_names)

# `key` names the problem in whatever words it is asked, so that no split asks what another asks;
# `gym` is the answer as the gym's scorer wants it.
Problem = namedtuple("Problem", "key questions thought answer gym")


def problem(key, questions, steps, answer, gym=None):
    thought = " ".join(step + "." for step in steps)
    return Problem(str(key), questions, thought, str(answer), str(answer if gym is None else gym))


# Numbers


def euclid(a, b):
    """Steps to the greatest common divisor, and the divisor."""
    a, b, steps = max(a, b), min(a, b), []
    while b > 0:
        steps.append(f"{a} = {a // b} * {b} + {a % b}")
        a, b = b, a % b
    return steps, a


def gcd(entry):
    a, b = entry["metadata"]["numbers"]
    steps, divisor = euclid(a, b)
    questions = [
        f"What is the greatest common divisor of {a} and {b}?",
        f"What is the largest number that divides both {a} and {b}?",
    ]
    is_too_common = divisor < 3 and Random(str((a, b))).random() < 0.7
    return problem(sorted((a, b)), questions, steps, divisor) if a != b and not is_too_common else None


def lcm(entry):
    a, b = entry["metadata"]["numbers"]
    steps, divisor = euclid(a, b)
    steps += [f"{a} / {divisor} = {a // divisor}", f"{a // divisor} * {b} = {a // divisor * b}"]
    questions = [
        f"What is the least common multiple of {a} and {b}?",
        f"What is the smallest number that both {a} and {b} divide?",
    ]
    return problem(sorted((a, b)), questions, steps, a // divisor * b) if a != b else None


def fraction_simplification(entry):
    data = entry["metadata"]
    above, below = data["numerator"], data["denominator"]
    steps, divisor = euclid(above, below)
    top, bottom = above // divisor, below // divisor
    if bottom == 1:
        return None
    steps += [f"{above} / {divisor} = {top}", f"{below} / {divisor} = {bottom}"]
    questions = [f"Simplify the fraction {above} over {below}.", f"Write {above} over {below} in lowest terms."]
    return problem((above, below), questions, steps, f"{top} over {bottom}", f"{top}/{bottom}")


def products(entry):
    a, b = (int(part) for part in entry["metadata"]["expression"].split(" * "))
    tens, ones = divmod(b, 10)
    steps = [f"{a} * {tens} = {a * tens}", f"{a * tens} * 10 = {a * tens * 10}"]
    if ones > 0:
        steps += [f"{a} * {ones} = {a * ones}", f"{a * tens * 10} + {a * ones} = {a * b}"]
    return problem(sorted((a, b)), [f"What is {a} * {b}?", f"Multiply {a} by {b}."], steps, a * b)


def prime_factorization(entry):
    number, factors = entry["metadata"]["number"], entry["metadata"]["factors"]
    if len(factors) < 2 or factors[-1] > 31:
        return None
    steps, rest = [], number
    for factor in factors[:-1]:
        steps.append(f"{rest} / {factor} = {rest // factor}")
        rest //= factor
    steps.append(f"{rest} is prime")
    questions = [f"List the prime factors of {number}, smallest first.", f"Which primes multiply to {number}?"]
    return problem(number, questions, steps, " ".join(map(str, factors)), " × ".join(map(str, factors)))


def decimal_chain_sum(entry):
    expression = entry["metadata"]["expression"]
    first, *rest = expression.split(" ")
    tenths, steps = int(first.replace(".", "")), []
    for sign, term in zip(rest[::2], rest[1::2]):
        value = int(term.replace(".", ""))
        result = tenths + value if sign == "+" else tenths - value
        steps.append(f"{tenths / 10} {sign} {term} = {result / 10}")
        tenths = result
    return problem(expression, [f"What is {expression}?", f"Calculate {expression}."], steps, tenths / 10)


def simple_equations(entry):
    data = entry["metadata"]
    name, equation = data["variable"], data["equation"].replace("*", " * ")
    found = re.fullmatch(rf"(?:(\d+) ([+-]) )?(?:(\d+) \* )?{name}(?: ([+-]) (\d+))? = (-?\d+)", equation)
    if not found:
        return None
    before, sign_before, factor, sign_after, after, right = found.groups()
    right, left = int(right), name if factor is None else f"{factor} * {name}"
    steps, value = [], right
    if before is not None and sign_before == "-":  # 10 - 3 * x = 4
        value = int(before) - right
        steps.append(f"{left} = {before} {'-' if right >= 0 else '+'} {abs(right)} = {value}")
    elif before is not None or after is not None:  # 3 * x + 5 = 20
        inverse = "+" if sign_after == "-" else "-"
        number = int(before or after)
        value = right + number if inverse == "+" else right - number
        steps.append(f"{left} = {right} {inverse} {number} = {value}")
    if factor is not None:
        steps.append(f"{name} = {value} / {factor} = {value // int(factor)}")
        value //= int(factor)
    key = re.sub(r"[a-z]", "x", equation)
    questions = [f"Solve for {name}: {equation}", f"What is {name} if {equation}?"]
    return problem(key, questions, steps, value) if steps else None


def divisions(number, base):
    """Steps of repeated division, and the digits, last first."""
    steps, digits = [], []
    while number > 0:
        steps.append(f"{number} / {base} = {number // base} r {number % base}")
        digits.append(number % base)
        number //= base
    return steps, digits


def base_conversion(entry):
    data = entry["metadata"]
    number, source, target, text = data["decimal_value"], data["source_base"], data["target_base"], data["source_repr"]
    if 10 not in (source, target) or number < 2 or max(len(text), len(data["target_repr"])) > 7:
        return None
    if source == 10:
        steps, _ = divisions(number, target)
        questions = [f"Write {number} in base {target}.", f"What is {number} in base {target}?"]
        return problem((number, target), questions, steps, data["target_repr"])
    value, steps = int(text[0]), []
    for digit in text[1:]:
        steps.append(f"{value} * {source} + {digit} = {value * source + int(digit)}")
        value = value * source + int(digit)
    named = f"the base {source} number {text} in base 10"
    questions = [f"Write {named}.", f"What is {named}?"]
    return problem((text, source, 10), questions, steps, number) if steps else None


def simple_geometry(entry):
    data = entry["metadata"]
    sides, angles = data["n_sides"], [int(angle) for angle in data["known_angles"]]
    left, steps = 180 * (sides - 2), [f"{sides} - 2 = {sides - 2}", f"{sides - 2} * 180 = {180 * (sides - 2)}"]
    for angle in angles:
        steps.append(f"{left} - {angle} = {left - angle}")
        left -= angle
    known = ", ".join(map(str, angles[:-1])) + f" and {angles[-1]}"
    question = f"A polygon with {sides} sides has angles of {known} degrees and one more."
    return problem((sides, angles), [f"{question} How many degrees has that one?"], steps, left)


# Lists and sequences


def number_sequence(entry):
    *terms, answer = entry["metadata"]["sequence"]
    last = terms[-1]
    pairs = list(zip(terms, terms[1:]))
    gaps = [b - a for a, b in pairs]
    ratios = {b // a for a, b in pairs if a != 0 and b % a == 0}
    if len(set(gaps)) == 1:
        value = last + gaps[0]
        steps = [f"{a} to {b}: {b - a}" for a, b in pairs]
        steps.append(f"{last} {'+' if gaps[0] > 0 else '-'} {abs(gaps[0])} = {value}")
    elif len(ratios) == 1 and all(a != 0 and b % a == 0 for a, b in pairs):
        value = last * min(ratios)
        steps = [f"{a} to {b}: * {b // a}" for a, b in pairs] + [f"{last} * {min(ratios)} = {value}"]
    elif all(terms[i] == terms[i - 1] + terms[i - 2] for i in range(2, len(terms))):
        value = last + terms[-2]
        steps = [f"{a} + {b} = {a + b}" for a, b in pairs]
    elif all(b == 2 * a for a, b in zip(gaps, gaps[1:])):
        value = last + 2 * gaps[-1]
        steps = [f"{a} to {b}: {b - a}" for a, b in pairs] + [f"{gaps[-1]} * 2 = {2 * gaps[-1]}"]
        steps.append(f"{last} {'+' if gaps[-1] > 0 else '-'} {abs(2 * gaps[-1])} = {value}")
    else:
        return None
    shown = ", ".join(map(str, terms))
    questions = [f"What comes next: {shown}?", f"Continue the sequence {shown}."]
    # A longer beginning of the same sequence would give the answer away: three terms name it.
    return problem(terms[:3], questions, steps, value) if value == answer else None


def number_sorting(entry):
    numbers = [int(float(text)) for text in entry["metadata"]["original_numbers"]]
    is_up = entry["metadata"]["direction"] == "ascending"
    if len(set(numbers)) < len(numbers):
        return None
    pick = min if is_up else max
    steps, order, rest = [], [], list(numbers)
    while len(rest) > 1:
        order.append(pick(rest))
        steps.append(f"{', '.join(map(str, rest))}: take {order[-1]}")
        rest.remove(order[-1])
    order += rest
    shown, ways = ", ".join(map(str, numbers)), ["smallest", "largest"] if is_up else ["largest", "smallest"]
    questions = [f"Sort from {ways[0]} to {ways[1]}: {shown}", f"Sort {shown}, {ways[0]} first."]
    return problem(sorted(numbers), questions, steps, " ".join(map(str, order)), str([str(n) for n in order]))


def number_filtering(entry):
    data = entry["metadata"]
    numbers, limit = [int(text) for text in data["original_numbers"]], int(data["filter_value"])
    what, size = data["operation"].split("_")
    kept, steps = [], []
    for number in numbers:
        is_named = number > limit if size == "larger" else number < limit
        stays = is_named == (what == "keep")
        sign = "<" if number < limit else ">" if number > limit else "="
        steps.append(f"{number} {sign} {limit}: {'keep' if stays else 'drop'}")
        kept += [str(number)] if stays else []
    question = f"{what.capitalize()} all numbers {size} than {limit}: {', '.join(map(str, numbers))}"
    return problem(question, [question], steps, " ".join(kept) or "none", str(kept))


# Letters and words


def letter_counting(entry):
    words, letter = [word.lower() for word in entry["metadata"]["span"]], entry["metadata"]["target_letter"]
    if not re.fullmatch("[a-z]+", "".join(words)):
        return None
    if "".join(words).count(letter) == 1 and Random(str(words)).random() < 0.6:
        return None  # or two of three answers would be 1
    count, steps = 0, []
    for word in words:
        count += word.count(letter)
        steps.append(f"{word}: {' '.join(word)}, {count}")
    text = " ".join(words)
    questions = [f'How many times is the letter {letter} in "{text}"?', f'Count the letter {letter} in "{text}".']
    return problem((text, letter), questions, steps, count)


def spell_backward(entry):
    word = entry["metadata"]["word"].lower()
    if not re.fullmatch("[a-z]+", word) or "negro" in word:  # the gym's list of words is an old one
        return None
    steps = [f"{word}: {' '.join(word)}", f"backward: {' '.join(word[::-1])}"]
    return problem(word, [f'Spell "{word}" backward.', f'Write "{word}" from right to left.'], steps, word[::-1])


def word_sorting(entry):
    words, is_up = entry["metadata"]["transformed_words"], entry["metadata"]["direction"] == "ascending"
    firsts = [word[0] for word in words]
    if len(set(firsts)) < len(words) or not re.fullmatch("[a-z]+", "".join(words)):
        return None
    order, ways = sorted(words, reverse=not is_up), "A to Z" if is_up else "Z to A"
    steps = [f"first letters: {', '.join(firsts)}", f"{ways}: {', '.join(word[0] for word in order)}"]
    shown = ", ".join(words)
    questions = [f"Sort from {ways}: {shown}", f"Put these words in order from {ways}: {shown}"]
    return problem(sorted(words), questions, steps, " ".join(order), ", ".join(order))


def word_sequence_reversal(entry):
    words = entry["metadata"]["words"]
    if not all(re.fullmatch("[a-z]{4,}", word) for word in words):  # graders read short ones as products
        return None
    steps = [f"{at + 1}: {words[at]}" for at in reversed(range(len(words)))]
    question = f"Write these words in reverse order: {', '.join(words)}"
    return problem(words, [question], steps, " ".join(reversed(words)), ", ".join(reversed(words)))


# Days and hours


def time_intervals(entry):
    times = [entry["metadata"][end].split(" ")[1][:5] for end in ("start_time", "end_time")]
    (hour, minute), (hour_after, minute_after) = (map(int, time.split(":")) for time in times)
    hours, minutes = hour_after - hour, minute_after - minute
    total = hours * 60 + minutes
    if total <= 0:
        return None
    steps = [f"{hour_after} - {hour} = {hours}", f"{hours} * 60 = {hours * 60}"]
    steps.append(f"{minute_after} - {minute} = {minutes}")
    steps.append(f"{hours * 60} {'+' if minutes >= 0 else '-'} {abs(minutes)} = {total}")
    questions = [
        f"How many minutes is it from {times[0]} to {times[1]}?",
        f"A film runs from {times[0]} to {times[1]}. How many minutes is that?",
    ]
    return problem(times, questions, steps, total, f"{total // 60:02}:{total % 60:02}")


def calendar_arithmetic(entry):
    data = entry["metadata"]
    days, day = abs(data["offset_days"]), re.search("|".join(WEEK), entry["question"]).group()
    is_after, rest = data["offset_days"] > 0, days % 7
    path = [WEEK[(WEEK.index(day) + (step if is_after else -step)) % 7] for step in range(1, rest + 1)]
    steps = [f"{days} = {days // 7} * 7 + {rest}"]
    steps.append(f"{rest} {'after' if is_after else 'before'} {day}: {', '.join(path or [day])}")
    ask = f"What day will it be in {days} days?" if is_after else f"What day was it {days} days ago?"
    return problem((day, data["offset_days"]), [f"Today is {day}. {ask}"], steps, (path or [day])[-1])


# Statements


def needle_haystack(entry):
    story, question = entry["question"].replace("’", "'").split(" \n")
    question = question.removesuffix(" Reply only with a name.")
    needle = [line for line in story.rstrip(".").split(". ") if f"{line.partition(' ')[2]}?" == question[4:]]
    names = [line.split(" ")[0] for line in story.split(". ")]
    if len(needle) != 1 or not all(re.fullmatch("[A-Z][a-z]{3,6}", name) for name in names):
        return None
    return problem(story + question, [f"{story} {question}"], needle, entry["answer"])


def family_relationships(entry):
    data, story = entry["metadata"], entry["question"].split("\n\n")[0]
    one, other = data["person1"], data["person2"]
    spouses, parents = set(), {}
    for a, b, children in re.findall(r"(\w+) is married to (\w+)\.(?: They have \w+ ?\w* called ([^.]+)\.)?", story):
        spouses |= {(a, b), (b, a)}
        parents |= {child: (a, b) for child in re.split(", | and ", children) if child}
    up = {person: parents.get(person, ()) for person in (one, other)}
    between = [parent for parent in up[other] if one in parents.get(parent, ())]
    words, steps = None, []
    if (one, other) in spouses:
        words, steps = ("husband", "wife"), [f"{one} and {other} are married"]
    elif one in up[other]:
        words, steps = ("father", "mother"), [f"{other} is a child of {one}"]
    elif other in up[one]:
        words, steps = ("son", "daughter"), [f"{one} is a child of {other}"]
    elif up[one] and up[one] == up[other]:
        words, steps = ("brother", "sister"), [f"{one} and {other} are children of {up[one][0]}"]
    elif between:
        words = ("grandfather", "grandmother")
        steps = [f"{other} is a child of {between[0]}", f"{between[0]} is a child of {one}"]
    if words is None:
        return None
    steps.append(f"{one} is {'male' if one in MEN else 'female'}")
    questions = [f"{story} What is {one} to {other}?", f"{story} How is {one} related to {other}?"]
    return problem((story, one, other), questions, steps, words[0 if one in MEN else 1])


# What two premises "… A are B" and "… B are C" say of A and C, what a statement says turned round, and
# what follows from it without turning.
JOINED = {("all", "all"): "all", ("all", "no"): "no", ("some", "all"): "some", ("some", "no"): "some not"}
TURNED = {"all": "some", "no": "no", "some": "some"}
WEAKER = {"all": "some", "no": "some not"}


def read_statement(text):
    how, a, negation, b = re.fullmatch(r"(All|No|Some) (\w+) are (not )?(\w+)", text).groups()
    return how.lower() + (" not" if negation else ""), a, b


def say_statement(how, a, b):
    quantity, *negation = how.split(" ")
    return " ".join([quantity, a, "are", *negation, b])


def syllogism(entry):
    data = entry["metadata"]
    first, second, asked = (read_statement(data[part]) for part in ("premise1", "premise2", "conclusion"))
    how, a, b = asked
    if (b, a) == first[1:]:
        source, told = "1", TURNED.get(first[0])
    elif (b, a) == second[1:]:
        source, told = "2", TURNED.get(second[0])
    else:
        source, told = "1 and 2", JOINED.get((first[0], second[0]))
    steps = [f"from {source}: {say_statement(told, a, b) if told else 'nothing'}"]
    follows = told is not None and how in (told, WEAKER.get(told))
    if follows and how != told:
        steps.append(f"so {say_statement(*asked)}")
    steps.append(f"asked: {say_statement(*asked)}")
    answer = "Yes" if follows else "No"
    question = f"1. {data['premise1']}. 2. {data['premise2']}. Does it follow that {say_statement(*asked)}?"
    # The gym takes "all A are B, some B are not C, so some A are not C" for valid; it is not.
    return problem(question, [question], steps, answer) if answer == entry["answer"] else None
