"""More problems of the kinds of which the pack has few, and of words and numbers: writes derived/drawn.jsonl.zst beside this file.

    python3 assets/data/reasoning/drawn.py

    numbers and training words, by chance --questions of kinds.py, thoughts of smaller_steps.py--> drawn.jsonl.zst

The gym knows only so many sequences or common multiples of numbers up to 75; these are the same kinds with other and larger
numbers, words put together of two training words (to be spelt, not to be known), and plain divisions with a rest. What a test
or validation problem asks, in whichever words, is left out, as are the numbers of the kinds that are only tested. Needs the
`zstd` command.
"""

import math
import random
import re
from itertools import accumulate

import smaller_steps
from smaller_steps import HERE, asked_numbers, lines

SEED = 20261201
# At most so many of a kind.
COUNTS = dict(lcm=3000, fraction_simplification=2400, prime_factorization=600, number_sequence=2400, divisions=4000)
COUNTS |= dict(spell_backward=5000, letter_counting=2000, word_sorting=3000, joined=3000)
DRAWS = 60_000  # at most so often for a kind
LONGEST_THOUGHT = 268  # characters, with its marks
LARGEST_OF_LCM, LARGEST_OF_FRACTION, LARGEST_FACTOR = 99, 40, 12
LARGEST_TO_FACTOR, LARGEST_PRIME = 5999, 31
LARGEST_TERM = 2000
# A quarter of the words to be spelt are words; the rest are put together of two.
SHARE_OF_WORDS = 0.25


def lcm(draw, words):
    a, b = draw.sample(range(2, LARGEST_OF_LCM + 1), 2)
    told = [f"What is the least common multiple of {a} and {b}?", f"What is the smallest number that both {a} and {b} divide?"]
    return told, [], str(math.lcm(a, b))


def fraction_simplification(draw, words):
    above, below = draw.sample(range(1, LARGEST_OF_FRACTION + 1), 2)
    factor = draw.randint(2, LARGEST_FACTOR)
    divisor = math.gcd(above * factor, below * factor)
    if above * factor == divisor or below * factor == divisor:
        return None
    told = [f"Simplify the fraction {above * factor} over {below * factor}.", f"Write {above * factor} over {below * factor} in lowest terms."]
    return told, [], f"{above * factor // divisor} over {below * factor // divisor}"


def prime_factorization(draw, words):
    number = rest = draw.randint(4, LARGEST_TO_FACTOR)
    factors = []
    for factor in range(2, LARGEST_PRIME + 1):
        while rest % factor == 0:
            factors.append(factor)
            rest //= factor
    if rest > 1 or len(factors) < 2:
        return None
    told = [f"List the prime factors of {number}, smallest first.", f"Which primes multiply to {number}?"]
    return told, [], " ".join(map(str, factors))


def number_sequence(draw, words):
    count, first = draw.randint(5, 7), draw.randint(-10, 20)
    gap = draw.choice([-1, 1]) * draw.randint(1, 15)
    rule = draw.choice(["even", "doubled", "two before", "times"])
    ratio = draw.choice([-5, -4, -3, -2, 2, 3, 4, 5])
    terms = [first, draw.randint(-10, 20) if rule == "two before" else first * ratio if rule == "times" else first + gap]
    while len(terms) < count:
        before, last = terms[-2:]
        ways = {"even": last + gap, "doubled": last + 2 * (last - before), "two before": before + last, "times": last * ratio}
        terms.append(ways[rule])
    if 0 in terms[:2] or max(map(abs, terms)) > LARGEST_TERM:
        return None
    *terms, answer = map(str, terms)
    return [f"What comes next: {', '.join(terms)}?", f"Continue the sequence {', '.join(terms)}."], [], answer


def divisions(draw, words):
    b = draw.choice([draw.randint(3, 12), draw.randint(3, 99)])
    a = draw.choice([draw.randint(b, 12 * b), draw.randint(b, 999)])
    if a % b == 0:
        return None
    told = [f"Divide {a} by {b}.", f"What is {a} divided by {b}?", f"What is {a} / {b}?", f"How often does {b} go into {a}?"]
    return told, [], f"{a // b} remainder {a % b}"


def put_together(draw, words):
    if draw.random() < SHARE_OF_WORDS:
        return draw.choice(words)
    one, other = draw.choice(words), draw.choice(words)
    return one[: draw.randint(2, 5)] + other[-draw.randint(2, 5) :]


def spell_backward(draw, words):
    word = put_together(draw, words)
    if not 4 <= len(word) <= 9:
        return None
    return [f'Spell "{word}" backward.', f'Write "{word}" from right to left.'], [f"{word}: {' '.join(word)}"], word[::-1]


def letter_counting(draw, words):
    some = [put_together(draw, words) for _ in range(draw.randint(2, 4))]
    text = " ".join(some)
    letter = draw.choice(text.replace(" ", ""))
    counts = accumulate(word.count(letter) for word in some)
    steps = [f"{word}: {' '.join(word)}, {count}" for word, count in zip(some, counts)]
    told = [f'How many times is the letter {letter} in "{text}"?', f'Count the letter {letter} in "{text}".']
    return told, steps, str(text.count(letter))


def word_sorting(draw, words):
    some, is_up = draw.sample(words, draw.randint(3, 5)), draw.random() < 0.5
    if len({word[0] for word in some}) < len(some):
        return None
    ways = "A to Z" if is_up else "Z to A"
    shown = ", ".join(some)
    told = [f"Sort from {ways}: {shown}", f"Put these words in order from {ways}: {shown}"]
    return told, [], " ".join(sorted(some, reverse=not is_up))


def joined(draw, words):
    """Words put together from their letters, forward or backward: what the last step of a word spelt backward does."""
    some = [put_together(draw, words)[:: draw.choice([-1, 1])] for _ in range(draw.randint(2, 4))]
    told = [f"Put these letters together: {', '.join(' '.join(word) for word in some)}"]
    return told, [], " ".join(some)


DRAWN = [lcm, fraction_simplification, prime_factorization, number_sequence, divisions, spell_backward, letter_counting, word_sorting, joined]


def about(kind, question):
    """What a problem is about, whichever way it is put, as a set: its numbers, the beginning of a sequence, its words."""
    if kind == "spell_backward":
        return {either_way(re.search('"(.*)"', question).group(1))}
    if kind == "letter_counting":
        return {re.search('"(.*)"', question).group(1)}
    if kind == "word_sorting":
        return {frozenset(question.split(": ")[1].split(", "))}
    if kind == "joined":
        return {either_way(word.replace(" ", "")) for word in question.split(": ")[1].split(", ")}
    numbers = asked_numbers(question)
    # The unseen kind `gcd` asks about two numbers, as do common multiples, fractions and divisions.
    return {tuple(numbers[:3]) if kind == "number_sequence" else frozenset(numbers)}


def either_way(word):
    return frozenset([word, word[::-1]])


def kept_apart():
    """What test and validation problems are about."""
    for name in ("validation.jsonl", "test.jsonl", "test_unseen_kinds.jsonl"):
        for record in lines(HERE / name):
            kind, question = record["template"], record["messages"][0]["content"]
            if kind in COUNTS or kind == "gcd":
                yield from about(kind, question)


def solve(kind, question, steps, answer):
    """The thought of a problem, in smaller steps where its kind has them; nothing for a kind without steps."""
    if kind == "divisions":
        steps = [smaller_steps.divided(*sorted(asked_numbers(question), reverse=True))]
    elif smaller := getattr(smaller_steps, kind, None):
        steps = smaller(question, steps, answer)
    return f"<think>{'. '.join(map(smaller_steps.check, steps))}.</think>" if steps else ""


def problems(function, words, taken):
    """Problems of a kind that are not among `taken`, to which they are added."""
    kind, records = function.__name__, []
    draw = random.Random(f"{SEED}/{kind}")
    for _ in range(DRAWS):
        found = function(draw, words)
        question = draw.choice(found[0]) if found else None
        if found is None or about(kind, question) & taken:
            continue
        _, steps, answer = found
        thought = solve(kind, question, steps, answer)
        if len(thought) > LONGEST_THOUGHT:
            continue
        taken |= about(kind, question)
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": thought + answer}]
        records.append({"messages": turns, "answer": answer, "template": kind})
        if len(records) == COUNTS[kind]:
            break
    print(f"{len(records)} {kind}")
    return records


def main():
    train = lines(HERE / "train.jsonl.zst")
    taken = set(kept_apart())
    words = [word for word in smaller_steps.training_words(train) if either_way(word) not in taken]
    records = []
    for function in DRAWN:
        kind = function.__name__
        for record in train:
            if record["template"] == kind:
                taken |= about(kind, record["messages"][0]["content"])
        records += problems(function, words, taken)
    smaller_steps.write(HERE / "derived" / "drawn.jsonl.zst", records)


if __name__ == "__main__":
    main()
