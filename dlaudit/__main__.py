"""Where ``dlaudit`` begins: answers ``--help`` at once, hands everything else to ``cli``.

Knows a text that was made beforehand (a test holds it equal to what click would print), because
importing click alone takes three times as long as Python takes to start.
"""

import sys

HELP = "help.txt"


def main() -> None:
    """Run the command line and exit."""
    if sys.argv[1:] in (["--help"], ["-h"]):
        with open(f"{__file__.rpartition('__main__')[0]}{HELP}", encoding="utf-8") as file:  # noqa: PTH123
            sys.stdout.write(file.read())  # pathlib, too, takes its time
        return
    from dlaudit.cli import main as command_line

    command_line()


if __name__ == "__main__":
    main()
