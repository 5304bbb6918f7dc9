"""Makes this pack: worded tasks of the package reasoning-gym with written-out steps.

    gym entry --kinds.py--> key, wordings, thought, answer --gym's scorer--> a line of a split

The gym draws the problems; `kinds.py` words them. Splits draw from seeds far apart, test first, and a
problem that one split has is left out of the others. The files come out the same to the bit:

    pip install reasoning-gym==0.1.25 sympy==1.14.0 numpy==2.4.6 zstandard==0.25.0
    python generate.py && python check.py
"""

import json
import re
from collections import Counter
from pathlib import Path
from random import Random

import reasoning_gym
import zstandard
from reasoning_gym.algorithmic.word_sorting import TextTransformation

import kinds

SEEDS = {"test": 1_000_000_000, "validation": 2_000_000_000, "train": 3_000_000_000}
COUNTS = {"test": 50, "validation": 50, "train": 2500}  # problems of a kind, where there are as many
DRAWS = 60_000  # the gym is asked at most this often for a kind and split
LONGEST_QUESTION, LONGEST_REPLY = 190, 76  # characters; pieces
LOWER = TextTransformation.LOWERCASE

# Each kind with what makes the gym's problems small.
TRAINED = [
    (kinds.lcm, dict(min_value=2, max_value=75)),
    (kinds.fraction_simplification, dict(max_value=30, min_factor=2, max_factor=12, styles=["plain"])),
    (kinds.products, dict(min_digits=2, max_digits=2)),
    (kinds.prime_factorization, dict(min_value=4, max_value=3000)),
    (kinds.decimal_chain_sum, dict(max_terms=3, max_digits=2, max_decimal_places=1)),
    (kinds.simple_equations, dict(max_terms=2, max_value=15)),
    (kinds.base_conversion, dict(max_base=10, max_value=199)),
    (kinds.number_sequence, dict(max_terms=6, max_complexity=1)),
    (kinds.number_sorting, dict(max_numbers=5, max_decimals=0, min_value=0, max_value=99)),
    (kinds.number_filtering, dict(max_numbers=5, max_decimals=0, min_value=0, max_value=99)),
    (kinds.letter_counting, dict(min_words=3, max_words=5)),
    (kinds.spell_backward, dict(min_word_len=4, max_word_len=8)),
    (kinds.word_sorting, dict(max_words=5, min_word_length=4, max_word_length=9, transformation=LOWER)),
    (kinds.time_intervals, dict(task_types=["time"], max_time_difference_seconds=6 * 3600)),
    (kinds.calendar_arithmetic, dict(tasks=["weekday_offset"], offset_upper_bound=200)),
    (kinds.needle_haystack, dict(min_num_statements=3, max_num_statements=4)),
    (kinds.family_relationships, dict(max_family_size=6)),
    (kinds.syllogism, dict(invalid_ratio=0.5)),
]
# Only tested. Their steps occur elsewhere: in lcm and fraction_simplification, in sums, in spell_backward.
UNSEEN = [
    (kinds.gcd, dict(min_value=2, max_value=99)),
    (kinds.simple_geometry, dict(max_sides=4)),
    (kinds.word_sequence_reversal, dict(max_words=4)),
]


def pieces(text):
    """About the tokens of a text: parts of words, digits, signs, and the spaces before numbers."""
    return len(re.findall(r"[A-Za-z]{1,3}| (?=-?\d)|\S", text))


def draw(function, config, split, taken):
    """The first problems of a kind that no split before has, as lines; their keys are added to `taken`."""
    kind, lines = function.__name__, []
    gym = reasoning_gym.create_dataset(kind, seed=SEEDS[split], size=DRAWS, **config)
    for index in range(DRAWS):
        if len(lines) == COUNTS[split]:
            break
        entry = gym[index]
        found = function(entry)
        if found is None or found.key in taken or pieces(f"{found.thought} {found.answer}") > LONGEST_REPLY:
            continue
        question = Random(found.key).choice(found.questions)
        if len(question) > LONGEST_QUESTION:
            continue
        if gym.score_answer(found.gym, entry) != 1.0:
            raise SystemExit(f"{kind}: the gym does not accept {found}")
        taken.add(found.key)
        reply = f"<think>{found.thought}</think>{found.answer}"
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]
        lines.append({"messages": messages, "answer": found.answer, "template": kind})
    return lines


def write(name, lines):
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
    if name.endswith(".zst"):
        text = zstandard.ZstdCompressor(level=19).compress(text)
    (Path(__file__).parent / name).write_bytes(text)


def main():
    splits = {split: [] for split in SEEDS}
    for function, config in TRAINED:
        taken = set()
        drawn = {split: draw(function, config, split, taken) for split in SEEDS}
        for split, lines in drawn.items():
            splits[split] += lines
        answer, _ = Counter(line["answer"] for line in drawn["train"]).most_common(1)[0]
        right = sum(line["answer"] == answer for line in drawn["test"]) / COUNTS["test"]
        print(f"{function.__name__:24} {len(drawn['train']):5} to train; always '{answer}': {right:.0%} of test")
    unseen = [line for function, config in UNSEEN for line in draw(function, config, "test", set())]
    Random(0).shuffle(splits["train"])
    write("train.jsonl.zst", splits["train"])
    write("validation.jsonl", splits["validation"])
    write("test.jsonl", splits["test"])
    write("test_unseen_kinds.jsonl", unseen)


if __name__ == "__main__":
    main()
