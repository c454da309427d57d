"""Calls as a crowd of agents makes them, from a seed: the same list each time.

Agents ask again what was asked before: two look up the same passage at once, each step of a plan carries the question along to be embedded anew, a task
that failed is begun again. How often is assumed here, not measured: no public trace of whole requests is known, and sellers of caches name anything from a tenth to
two thirds. REPEATED says again, byte for byte, what an earlier call said; half of that follows it so closely that it is mostly still in flight. Of all calls
SAMPLED have a temperature, and their answers may not be shared, however often they say the same: a cache that spares those is wrong.
"""

import json
import random

CHAT, EMBEDDING = "gpt-4o-mini", "text-embedding-3-small"
PRICES = {CHAT: (0.15, 0.60), EMBEDDING: (0.02, 0.0)}  # US dollars per million tokens, in and out, as OpenAI lists them
REPEATED, CLOSE = 0.4, 24  # a share of all calls; how many calls behind is "closely"
EMBEDDED, SAMPLED = 0.3, 0.2  # shares of what is asked for the first time; the rest is asked at temperature 0


class Call:
    def __init__(self, path, body, shareable):
        self.path, self.body, self.shareable = path, json.dumps(body), shareable


def _words(chance, count):
    return " ".join("".join(chance.choice("abcdefghiklmnoprstuvw") for _ in range(chance.randrange(2, 9))) for _ in range(count))


def _new(chance):
    kind, words = chance.random(), _words(chance, chance.randrange(40, 400))
    if kind < EMBEDDED:
        return Call("/v1/embeddings", {"model": EMBEDDING, "input": words}, True)
    words += f" [[sim tokens={chance.randrange(20, 200)}]]"
    sampled = kind < EMBEDDED + SAMPLED
    return Call("/v1/chat/completions", {"model": CHAT, "temperature": 0.7 if sampled else 0, "messages": [{"role": "user", "content": words}]}, not sampled)


def calls(count, seed):
    chance, made = random.Random(seed), []
    for _ in range(count):
        if not made or chance.random() >= REPEATED:
            made.append(_new(chance))
        elif chance.random() < 0.5:
            made.append(chance.choice(made[-CLOSE:]))
        else:
            made.append(chance.choice(made))
    return made


def repeats(made):
    """(how many calls say again what an earlier one said, how many of these may be given its answer)"""
    seen, again, shareable = set(), 0, 0
    for call in made:
        again += call.body in seen
        shareable += call.body in seen and call.shareable
        seen.add(call.body)
    return again, shareable


def cost(received):
    """US dollars for what the simulator has received, as `Sim.calls` tells it."""
    return sum((call["input_tokens"] * PRICES[call["model"]][0] + call["output_tokens"] * PRICES[call["model"]][1]) / 1e6 for call in received)
