"""The file of rules: who is told of what, and what is wrong with a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from api.webhooks.rules import BadWebhooksFile, Rules, read_rules
from orchestrator import RunOptions, RunStatus
from tests.api.processes import invoke
from tests.api.webhooks.receiver import SECRET
from tests.crash.test_recovery import _record

if TYPE_CHECKING:
    from pathlib import Path

URL, OTHER = "https://a.example/hook", "https://b.example/hook"


def rules_of(*rules: dict[str, Any], **more: Any) -> Rules:
    return Rules.model_validate({"secret": SECRET, "rule": list(rules), **more})


@pytest.mark.parametrize(
    ("rule", "status", "agent", "wanted"),
    [
        ({}, "stopped", "crawl", True),
        ({"statuses": ["failed"]}, "failed", "crawl", True),
        ({"statuses": ["failed"]}, "stopped", "crawl", False),
        ({"agents": ["crawl"]}, "lost", "crawl", True),
        ({"agents": ["crawl"]}, "lost", "chat", False),
        ({"agents": ["crawl"], "statuses": ["lost"]}, "failed", "crawl", False),
    ],
)
def test_a_rule_says_what_it_wants(
    rule: dict[str, Any], status: str, agent: str, wanted: bool
) -> None:
    record = _record("run_root", status=RunStatus(status), agent=agent)
    rules = rules_of({"url": URL, **rule})
    assert list(rules.targets_of(record)) == ([URL] if wanted else [])


def test_each_target_is_told_once() -> None:
    options = RunOptions(webhook=OTHER)
    record = _record("run_root", status=RunStatus.FAILED, options=options)
    rules = rules_of({"url": URL}, {"url": URL, "statuses": ["failed"]}, {"url": OTHER})
    assert list(rules.targets_of(record)) == [OTHER, URL]


def test_a_rule_may_have_a_secret_of_its_own() -> None:
    own = SECRET[:-4] + "c2Vj"
    rules = rules_of({"url": URL, "secret": own}, {"url": OTHER})
    assert [rules.secret_of(each) for each in (URL, OTHER, "https://c.example")] == [
        own,
        SECRET,
        SECRET,
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rule = 1", "rule: "),
        ("[[rule]", "is not TOML"),
        ("[[rule]]", "rule.1.url: Field required"),
        ('[[rule]]\nurl = "ftp://x"', "rule.1.url: must be an http, https or mailto URL"),
        ('[[rule]]\nurl = "https://u:p@x/"', "rule.1.url: must be an http"),
        ('[[rule]]\nurl = "https://x:0/"', "rule.1.url: must be an http"),
        ('[[rule]]\nurl = "https://x:99999/"', "rule.1.url: Port out of range"),
        ('[[rule]]\nurl = "https://x"', "rule 1 has no secret"),
        ('secret = "hello"', "secret: must be whsec_"),
        ('secret = "whsec_c2hvcnQ="', "secret: must be whsec_"),
        ('[[rule]]\nurl = "https://x"\nstatuses = ["running"]', "rule.1.statuses.1: is not one of"),
        ('[[rule]]\nurl = "https://x"\nstatus = "failed"', "rule.1.status: "),
        ('[[rule]]\nurl = "mailto:a@b.c"', "rule 1 is for mail, but there is no table [mail]"),
        ('[[rule]]\nurl = "mailto:nobody"', "rule.1.url: must be mailto:"),
        ('[mail]\nhost = "x"', "mail.sender: Field required"),
        ('[mail]\nhost = "x"\nsender = "a@b"\nport = 0', "mail.port: "),
    ],
)
def test_a_file_that_is_wrong_is_refused_at_the_start_with_its_reason(
    text: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "webhooks.toml"
    path.write_text(text)
    with pytest.raises(BadWebhooksFile) as raised:
        read_rules(path)
    assert said in str(raised.value)
    assert "webhooks.toml" in str(raised.value)
    code, output = invoke("serve", "--webhooks", str(path), "--store", "memory://")
    assert code == 2
    assert " ".join(said.split()) in " ".join(output.split())


def test_what_is_wrong_is_told_without_the_secret(tmp_path: Path) -> None:
    path = tmp_path / "webhooks.toml"
    path.write_text('secret = "my-own-secret-that-is-not-in-base64"')
    with pytest.raises(BadWebhooksFile) as raised:
        read_rules(path)
    assert "my-own" not in str(raised.value)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadWebhooksFile, match="cannot read"):
        read_rules(tmp_path / "none.toml")


def test_two_secrets_for_one_url_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "webhooks.toml"
    path.write_text(
        f'secret = "{SECRET}"\n[[rule]]\nurl = "{URL}"\n'
        f'[[rule]]\nurl = "{URL}"\nsecret = "{SECRET[:-4]}c2Vj"\n'
    )
    with pytest.raises(BadWebhooksFile, match="rule 2 has another secret"):
        read_rules(path)


def test_a_secret_can_be_made(tmp_path: Path) -> None:
    code, made = invoke("webhooks", "secret")
    assert code == 0
    path = tmp_path / "webhooks.toml"
    path.write_text(f'secret = "{made.strip()}"')
    assert read_rules(path).secret == made.strip()


def test_a_network_that_is_none_is_refused() -> None:
    code, output = invoke("serve", "--webhooks-allow", "10.0.0.1/8")
    assert code == 2
    assert "is no network" in output
