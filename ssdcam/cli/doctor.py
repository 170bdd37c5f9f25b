"""``ssdcam doctor``: what works here, what does not, and what to do."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ssdcam.cli import console, options

if TYPE_CHECKING:
    from ssdcam.diagnosis.finding import Finding

_COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="The findings as JSON on stdout.")
@options.verbosity
def command(as_json: bool) -> None:
    """Say what works here, what does not, and what to do.

    Cameras, windows, codecs and engines are tried, and no network is used. The exit code is 0 if all that is
    necessary works: pictures and videos can be looked at.
    """
    from ssdcam.diagnosis.checks import checks, run_checks
    from ssdcam.diagnosis.finding import all_necessary_works

    findings: list[Finding] = []
    for finding in run_checks(checks([name for name in options.ENGINES if name != "torch"])):
        findings.append(finding)
        if not as_json:
            _show(finding)
    works = all_necessary_works(findings)
    if as_json:
        found = [asdict(finding) for finding in findings]
        click.echo(json.dumps({"ok": works, "findings": found}, ensure_ascii=False))
    else:
        click.echo(_verdict(findings, works))
    if not works:
        raise click.exceptions.Exit(1)


def _show(finding: Finding) -> None:
    status = click.style(f"{finding.status:9}", fg=_COLOURS[finding.status])
    click.echo(f"{status}{console.printable(f'{finding.name:17} {finding.text}')}")
    if finding.remedy:
        click.echo(f"{'':9}{console.printable(f'-> {finding.remedy}')}")


def _verdict(findings: list[Finding], works: bool) -> str:
    problems, warnings = (sum(f.status == status for f in findings) for status in ("problem", "warning"))
    counts = f"{_counted(problems, 'problem')}, {_counted(warnings, 'warning')}"
    return f"{counts}: {'all that is necessary works' if works else 'something necessary does not work'}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
