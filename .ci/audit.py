"""`make audit`: asks pip-audit for known weaknesses of the packages that this environment has installed.

pip-audit itself skips a package about which its service gives no answer, and still exits with 0. Here exit code 0 means
that every package was looked up and none has a known weakness, except builds of a private version (torch's `+cpu`),
which are listed; exit code 1 means anything else.
"""

from __future__ import annotations

import json
import subprocess
import sys


def main() -> int:
    """Run pip-audit, and print what it found."""
    command = [sys.executable, "-m", "pip_audit", "--local", "--skip-editable", "--progress-spinner=off"]
    # pip-audit exits with 1 both when it found something and when it failed: its report tells them apart.
    done = subprocess.run([*command, "--format=json"], capture_output=True, text=True, check=False)  # noqa: S603
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        return say(
            f"pip-audit could not do its work; its service may be out of reach. It ended with: {lines[-1]}"
        )
    # The project itself is skipped by `--skip-editable`.
    wanted = [package for package in packages if "editable" not in package.get("skip_reason", "")]
    looked_up = [package for package in wanted if "skip_reason" not in package]
    weak = [package for package in looked_up if package["vulns"]]
    for package in weak:
        for weakness in package["vulns"]:
            mended = ", ".join(weakness["fix_versions"]) or "no version yet"
            say(f"{package['name']} {package['version']}: {weakness['id']}, mended in {mended}")
    missed = [package for package in wanted if "skip_reason" in package]
    private = [package for package in missed if "+" in package["skip_reason"]]
    if not looked_up:
        return say("nothing was audited: the service of pip-audit (pypi.org) cannot be reached from here")
    for package in missed:
        say(f"not audited: {package['name']}: {package['skip_reason']}")
    say(f"{len(looked_up)} packages audited, {len(weak)} with known weaknesses, {len(missed)} not audited")
    return int(bool(weak) or len(missed) > len(private))


def say(line: str) -> int:
    """Print a line, and return 1, the exit code where nothing else was found."""
    print(f"audit: {line}", file=sys.stderr)  # noqa: T201 - a program of its own
    return 1


if __name__ == "__main__":
    sys.exit(main())
