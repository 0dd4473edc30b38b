"""The short form of the fuzz: `python -m tests.fuzz.programs --executions N` is the long one."""

import random
from pathlib import Path

import pytest

from skyfan.models.programs.operators import FAMILIES, RANDOM, allowed_operators
from tests.fuzz.operators import hammer_in_child
from tests.fuzz.programs import fuzz

CALLS = 20


@pytest.mark.slow
def test_mutated_programs_are_refused_in_a_sentence_or_run(tmp_path: Path):
    outcomes = fuzz(400, seed=random.Random(20261126).randrange(2**20), run_every=10, keep=tmp_path)
    assert sorted(outcomes) == ["passed", "refused", "run"]
    assert outcomes["passed"] > 20
    assert outcomes["refused"] > 200


@pytest.mark.slow
@pytest.mark.parametrize("family", [*FAMILIES, RANDOM], ids=lambda family: family.subject)
def test_no_operator_of_a_family_ends_its_process(family):
    assert family.why
    assert {target: hammer_in_child(target, CALLS, 7) for target in family.targets()} == dict.fromkeys(
        family.targets(), 0
    )


def test_every_operator_is_in_one_family():
    listed = [target for family in (*FAMILIES, RANDOM) for target in family.targets()]
    assert len(listed) == len(set(listed)) == len(allowed_operators(random=True))
