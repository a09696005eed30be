"""What a type checker says of calls: right ones pass, wrong ones are errors."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
CALLS = Path(__file__).parent / "typed_calls.py"


def lines_with_errors(tmp_path: Path) -> dict[int, str]:
    """The lines of the calls that ``mypy --strict`` complains about."""
    settings = tmp_path / "mypy.ini"
    settings.write_text("[mypy]\nstrict = true\nfollow_imports = silent\n")
    command = [sys.executable, "-m", "mypy", f"--config-file={settings}", "--no-color-output"]
    command += [f"--cache-dir={ROOT / '.mypy_cache' / 'calls'}", str(CALLS)]

    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert result.stdout.splitlines()[-1:], result.stderr
    assert "1 source file" in result.stdout.splitlines()[-1], result.stdout + result.stderr
    found = re.findall(r"^[^:\n]*typed_calls\.py:(\d+): error: (.*)$", result.stdout, re.MULTILINE)
    return {int(number): text for number, text in found}


def test_wrong_arguments_are_errors_and_right_ones_are_not(tmp_path: Path) -> None:
    lines = CALLS.read_text().splitlines()
    refused = {number for number, line in enumerate(lines, 1) if line.endswith("# refused")}

    errors = lines_with_errors(tmp_path)

    assert len(refused) > 20
    assert {lines[n - 1].strip(): errors[n] for n in errors.keys() - refused} == {}
    assert [lines[n - 1].strip() for n in sorted(refused - errors.keys())] == []
