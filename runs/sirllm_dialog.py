#!/usr/bin/env python3
"""SirLLM beside StreamingLLM and H2O at one budget, on dialogues and on rock-paper-scissors.

  runs/sirllm_dialog.py [--model M] [--threads N] [--rows N] [--rounds N] [--seconds N]

The model picks a letter, its pick joins the cache, the next turn follows (adze choices). DailyDialog:
which of four replies comes next; cache of 512 tokens, empty at each dialogue. Rock-paper-scissors:
beat a player with a favourite move; cache of 1024 tokens, never emptied. Budgets are set so that the
row which picks sees about as many tokens under every policy; what it saw is in the table.

Work is done in pieces that are kept in build/runs/sirllm_dialog; --seconds ends the run before a
piece that would begin later, and the next run goes on there. The table of what is there is printed
each time and, when nothing is missing, written to runs/records/sirllm_dialog.md. Intervals: 95 %,
percentiles of 2000 bootstrap samples of whole dialogues, or of blocks of 20 rounds; differences are
paired. Data: ../shared/data/dialog, or the folder that ADZE_SHARED names with /data/dialog.
"""

import argparse
import datetime
import hashlib
import json
import math
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
ADZE = os.environ.get("ADZE", ROOT / "build/adze")
PIECES = ROOT / "build" / "runs" / "sirllm_dialog"
DATA = pathlib.Path(os.environ.get("ADZE_SHARED", ROOT.parent / "shared")) / "data" / "dialog"
MOVES = ["rock", "paper", "scissors"]
DIALOGUES_A_PIECE = 130
BLOCK = 20  # rounds that are drawn together
SAMPLES = 2000

# Turns take about 130 and 75 tokens. SirLLM makes room before a turn, H2O after it, and a window
# cuts when 32 tokens more than it keeps are in.
POLICIES = {
    "DailyDialog": {
        "full": "full",
        "StreamingLLM": "window:sinks=4,window=492",
        "H2O": "h2o:keep=1,tokens=384,ranks=true",
        "SirLLM": "sirllm:tokens=512,sinks=4,recent=0,decay=0.7",
    },
    "rock-paper-scissors": {
        "StreamingLLM": "window:sinks=4,window=1004",
        "H2O": "h2o:keep=1,tokens=950,ranks=true",
        "SirLLM": "sirllm:tokens=1024,sinks=4,recent=0,decay=0.9",
    },
}


def say(text):
    print(text, file=sys.stderr, flush=True)


def adze(*arguments, text=None):
    done = subprocess.run([ADZE, *map(str, arguments)], input=text, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"runs: adze {arguments[0]} failed ({done.returncode}): {done.stderr[-500:]}")
    return done.stdout


class Template:
    """The model's chat template, as text before, between and after what is said."""

    def __init__(self, model):
        roles = [("user", "FIRST"), ("assistant", "ANSWER"), ("user", "SECOND")]
        messages = json.dumps([{"role": role, "content": content} for role, content in roles])
        text = json.loads(adze("template", "--model", model, "--messages", "-", "--json", text=messages))["text"]
        self.opening, rest = text.split("FIRST")
        self.before_answer, rest = rest.split("ANSWER")
        self.between = rest.split("SECOND")[0]

    def turn(self, question, first):
        return (self.opening if first else self.between) + question + self.before_answer


def lettered(texts):
    return " ".join(f"({letter}) {text.strip()}" for letter, text in zip("ABCD", texts))


def dialog_turns(template, rows):
    """Pieces of turns; `stream` is the dialogue."""
    lines = (DATA / "dailydialog.jsonl").read_text().splitlines()[:rows]
    pieces, dialogue = [], None
    started = 0
    for row in map(json.loads, lines):
        name = row["id"].split("_")[0]
        choices = row["question"]["choices"]
        question = (f"Choose the best reply to this: {row['question']['stem'].strip()}\n"
                    f"Choices: {lettered([c['text'] for c in choices])}\nAnswer with the letter only.")
        if name != dialogue:
            if started % DIALOGUES_A_PIECE == 0:
                pieces.append([])
            started += 1
        pieces[-1].append({"stream": name, "text": template.turn(question, name != dialogue),
                           "choices": [c["label"] for c in choices],
                           "answer": [c["label"] for c in choices].index(row["answerKey"])})
        dialogue = name
    return pieces


def game_turns(template, rounds):
    """A piece a player, one stream each; the answer is the move that wins."""
    pieces = []
    for favourite in MOVES:
        lines = (DATA / f"rps-{favourite}.jsonl").read_text().splitlines()[:rounds]
        turns, last = [], None
        for row in map(json.loads, lines):
            opening = ("Let us play rock-paper-scissors, round after round." if last is None else
                       f"My last move was [{last}]. Study which moves I prefer and choose yours so that you win "
                       "as often as possible.")
            question = f"{opening}\nChoices: {lettered(MOVES)}\nAnswer with the letter only."
            turns.append({"stream": favourite, "text": template.turn(question, last is None),
                          "choices": list("ABC"), "answer": "ABC".index(row["answerKey"]),
                          "user": "ABC".index(row["user_choice"])})
            last = MOVES["ABC".index(row["user_choice"])]
        pieces.append(turns)
    return pieces


def run_piece(model, threads, policy, turns):
    """Results of the turns: kept ones, or new ones. None: out of time."""
    lines = "".join(json.dumps(turn) + "\n" for turn in turns)
    name = hashlib.sha256(f"{model} {policy}\n{lines}".encode()).hexdigest()[:24]
    path = PIECES / f"{name}.json"
    if path.exists():
        return json.loads(path.read_text())
    if time.monotonic() > run_piece.end:
        return None
    start = time.monotonic()
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.write(lines)
        file.flush()
        output = adze("choices", "--model", model, "--file", file.name, "--kv-policy", policy,
                      "--threads", threads, "--json")
    results = json.loads(output.splitlines()[-1])["turns"]
    PIECES.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(results))
    part.rename(path)
    say(f"{policy}: {len(turns)} turns in {time.monotonic() - start:.0f} s")
    return results


def measures(turn, result):
    """What is averaged over turns."""
    most = max(result["logprobs"])
    total = most + math.log(sum(math.exp(value - most) for value in result["logprobs"]))
    return {"right": float(result["chosen"] == turn["answer"]),
            "tie": float(result["chosen"] == turn.get("user", -1)),
            "nats": total - result["logprobs"][turn["answer"]],  # of the right letter among the letters
            "attended": result["attended"]}


def interval(groups, random_state):
    """Mean over turns and its interval; groups: (sum, count) of what is drawn together."""
    mean = sum(s for s, _ in groups) / sum(n for _, n in groups)
    means = []
    for _ in range(SAMPLES):
        drawn = random_state.choices(groups, k=len(groups))
        means.append(sum(s for s, _ in drawn) / sum(n for _, n in drawn))
    means.sort()
    return mean, means[int(0.025 * SAMPLES)], means[int(0.975 * SAMPLES)]


def grouped(names, values):
    groups = {}
    for name, value in zip(names, values):
        total, count = groups.get(name, (0.0, 0))
        groups[name] = (total + value, count + 1)
    return list(groups.values())


def percent(estimate, sign=""):
    return f"{100 * estimate[0]:{sign}.1f} [{100 * estimate[1]:{sign}.1f}, {100 * estimate[2]:{sign}.1f}]"


def number(estimate, sign=""):
    return f"{estimate[0]:{sign}.3f} [{estimate[1]:{sign}.3f}, {estimate[2]:{sign}.3f}]"


def rows_of(title, names, by_policy, rows, game):
    """Table lines of a set of turns (their places in the lists of by_policy)."""
    if not rows:
        return [f"| {title} | none | | | | | |"]
    lines = []
    column = lambda policy, key: [by_policy[policy][i][key] for i in rows]  # noqa: E731
    drawn = [names[i] for i in rows]
    for policy in by_policy:
        state = random.Random(1)
        right = interval(grouped(drawn, column(policy, "right")), state)
        nats = interval(grouped(drawn, column(policy, "nats")), state)
        cells = [title, str(len(rows)), policy, percent(right)]
        if game:
            cells[-1] += f" / {100 * sum(column(policy, 'tie')) / len(rows):.1f}"
        if policy == "SirLLM":
            cells.append("")
        else:
            gains = [a - b for a, b in zip(column("SirLLM", "right"), column(policy, "right"))]
            cells.append(percent(interval(grouped(drawn, gains), state), "+"))
        cells += [number(nats), f"{sum(column(policy, 'attended')) / len(rows):.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def table(task, pieces, results):
    """Markdown lines of a task, of the pieces that every policy has done."""
    policies = list(POLICIES[task])
    done = [i for i in range(len(pieces)) if all(results[task, policy][i] is not None for policy in policies)]
    game = task == "rock-paper-scissors"
    lines = [f"### {task}: {len(done)} of {len(pieces)} pieces", "",
             f"| turns | count | policy | {'wins / ties %' if game else 'right %'} | SirLLM is better by | "
             "nats of the right letter | tokens seen |", "|---|---:|---|---|---|---|---:|"]
    names, evicted, by_policy = [], [], {policy: [] for policy in policies}
    for i in done:
        for place, turn in enumerate(pieces[i]):
            names.append(f"{turn['stream']} {place // BLOCK}" if game else turn["stream"])
            records = {policy: results[task, policy][i][place] for policy in policies}
            evicted.append(all(record["attended"] < record["tokens"]
                               for policy, record in records.items() if policy != "full"))
            for policy in policies:
                by_policy[policy].append(measures(turn, records[policy]))
    everything = range(len(names))
    lines += rows_of("all", names, by_policy, list(everything), game)
    lines += rows_of("after an eviction", names, by_policy, [i for i in everything if evicted[i]], game)
    if game:
        for favourite in MOVES:
            lines += rows_of(f"after an eviction, {favourite}", names, by_policy,
                             [i for i in everything if evicted[i] and names[i].startswith(favourite)], game)
    picks = {policy: [0] * 4 for policy in policies}
    for policy in policies:
        for i in done:
            for result in results[task, policy][i]:
                picks[policy][result["chosen"]] += 1
    total = max(1, len(names))
    lines += ["", "Letters picked (A, B, C, D), %: " + "; ".join(
        f"{policy} {', '.join(f'{100 * count / total:.0f}' for count in counts[:3 if game else 4])}"
        for policy, counts in picks.items()) + "."]
    return lines + [""]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rows", type=int, default=1000, help="of DailyDialog")
    parser.add_argument("--rounds", type=int, default=200, help="of each player")
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin no piece later than this")
    options = parser.parse_args()
    if not DATA.exists():
        sys.exit(f"runs: expected the dialogue data in {DATA}, found nothing")
    run_piece.end = time.monotonic() + options.seconds
    template = Template(options.model)
    work = {"DailyDialog": dialog_turns(template, options.rows),
            "rock-paper-scissors": game_turns(template, options.rounds)}
    results = {(task, policy): [None] * len(work[task]) for task in work for policy in POLICIES[task]}
    # A piece under every policy, then the next, both tasks by turns: what is there can be compared.
    for i in range(max(map(len, work.values()))):
        for (task, policy), done in results.items():
            if i < len(done):
                done[i] = run_piece(options.model, options.threads, POLICIES[task][policy], work[task][i])
    commit = subprocess.run(["git", "-C", ROOT, "describe", "--always"], capture_output=True, text=True).stdout.strip()
    text = ["# SirLLM, StreamingLLM and H2O on dialogues", "",
            f"`runs/sirllm_dialog.py --rows {options.rows} --rounds {options.rounds}`, {options.model}, cache in f16, "
            f"{datetime.date.today()}, commit {commit}. Means with 95 % intervals.", ""]
    for task, policies in POLICIES.items():
        text += [f"- {task}: " + ", ".join(f"{name} `{setting}`" for name, setting in policies.items())]
    text += [""]
    for task, pieces in work.items():
        text += table(task, pieces, results)
    print("\n".join(text))
    if all(piece is not None for pieces in results.values() for piece in pieces):
        record = ROOT / "runs" / "records" / "sirllm_dialog.md"
        record.parent.mkdir(exist_ok=True)
        record.write_text("\n".join(text).rstrip() + "\n")
        say(f"recorded in {record.relative_to(ROOT)}")
    else:
        say("not complete: run again to go on")


if __name__ == "__main__":
    main()
