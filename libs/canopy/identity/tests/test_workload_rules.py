"""Which workload is which app, and what a wrong file of rules is told."""

import pytest

from canopy.identity.workload_rules import BadRules, Rule, Workload, fitting, read

RULES = read(
    """
[[app]]
name = "camera"
uid = 1001
path = "/usr/bin/camera"
ttl_seconds = 600

[[app]]
name = "video"
gid = 44

[[app]]
name = "camera"
uid = 7
"""
)


@pytest.mark.parametrize(
    ("workload", "apps"),
    [
        (Workload(5, 1001, 1001, "/usr/bin/camera"), ["camera"]),
        (Workload(5, 1001, 44, "/usr/bin/camera"), ["camera", "video"]),
        (Workload(5, 1001, 1001, "/tmp/camera"), []),
        (Workload(5, 1001, 1001, ""), []),
        (Workload(5, 1001, 1001, "/usr/bin/camera (deleted)"), []),
        (Workload(5, 0, 0, "/usr/bin/camera"), []),
        (Workload(5, 7, 44, "/bin/sh"), ["video", "camera"]),
    ],
)
def test_a_workload_is_what_every_given_selector_says(workload: Workload, apps: list[str]) -> None:
    assert [rule.app for rule in fitting(RULES, workload)] == apps


def test_of_several_rules_for_one_app_the_first_counts() -> None:
    rules = (Rule("a", uid=1, ttl_seconds=60), Rule("a", gid=1, ttl_seconds=90))
    assert fitting(rules, Workload(1, 1, 1)) == (rules[0],)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[app]]\nname = 'x'", "anybody would fit"),
        ("[[app]]\nname = '../x'\nuid = 1", "is not a Kubernetes name"),
        ("[[app]]\nuid = 1", "is not a Kubernetes name"),
        ("[[app]]\nname = 'x'\nuid = -1", "uid is -1"),
        ("[[app]]\nname = 'x'\nuid = true", "uid is True"),
        ("[[app]]\nname = 'x'\ngid = '1'", "gid is '1'"),
        ("[[app]]\nname = 'x'\npath = 'bin/x'", "whole path"),
        ("[[app]]\nname = 'x'\nuid = 1\nttl_seconds = 5", "ttl_seconds is 5"),
        ("[[app]]\nname = 'x'\nuser = 1", "user: there are"),
        ("[[apps]]\nname = 'x'", "apps: there is only [[app]]"),
        ("app = 3", "only [[app]]"),
        ("[[app]", "no TOML"),
        ("[[app]]\nname='x'\nuid=1\n" * 1001, "at most 1000"),
    ],
)
def test_a_wrong_file_is_told_which_rule_and_what_would_be_right(text: str, words: str) -> None:
    with pytest.raises(BadRules, match=words.replace("[", r"\[")):
        read(text)


def test_an_empty_file_lets_nobody_in() -> None:
    assert fitting(read("# nothing"), Workload(1, 0, 0, "/bin/sh")) == ()
