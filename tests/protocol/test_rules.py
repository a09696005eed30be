"""Every rule of the protocol holds, and is missed when it is switched off."""

import pytest

from tests.protocol import (
    stories_claims,
    stories_commits,
    stories_families,
    stories_leases,
    stories_limits,
    stories_order,
    stories_steps,
    stories_undoing,
    stories_verbs,
)
from tests.protocol.rules import Rule
from tests.protocol.stage import Stage

RULES: list[Rule] = [
    *stories_leases.RULES,
    *stories_commits.RULES,
    *stories_claims.RULES,
    *stories_steps.RULES,
    *stories_verbs.RULES,
    *stories_order.RULES,
    *stories_families.RULES,
    *stories_undoing.RULES,
    *stories_limits.RULES,
]
SWITCHED_OFF = [(rule, how) for rule in RULES for how in rule.off]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_the_rule_holds(rule: Rule, stage: Stage) -> None:
    rule.story(stage)


@pytest.mark.parametrize(
    ("rule", "how"), SWITCHED_OFF, ids=[f"{rule}, {how}" for rule, how in SWITCHED_OFF]
)
def test_its_story_fails_without_the_rule(rule: Rule, how: str, stage: Stage) -> None:
    with rule.off[how]():
        with pytest.raises(AssertionError, match=rule.symptom):
            rule.story(stage)
        stage.close()
