"""`auditkit` and `python -m auditkit`."""

import sys


def main() -> None:
    """Runs the command line and exits with its code: 0 finished, 1 failed, 2 the user's mistake, 3 and 4 by --fail-on, 130 interrupted."""
    from auditkit.cli import run

    sys.exit(run())


if __name__ == "__main__":
    main()
