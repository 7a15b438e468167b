"""The register of policies."""
from dataclasses import dataclass
from typing import Callable


@dataclass
class Policy:
    number: int
    sentence: str
    find: Callable


POLICIES: dict[int, Policy] = {}


def policy(number, sentence):
    def register(find):
        assert number not in POLICIES, number
        POLICIES[number] = Policy(number, sentence, find)
        return find

    return register


def findings(world, numbers=None):
    """Pairs of policy and problem."""
    return [(p.number, problem) for p in POLICIES.values() if numbers is None or p.number in numbers for problem in p.find(world)]
