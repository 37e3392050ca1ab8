"""`pcbench` and `python -m pcbench`: what must hold before anything else is loaded, then the command line."""

from pcbench.system import interrupts, streams


def main() -> None:
    """Runs the arguments of the process."""
    # the pipe that signals come by must not become a stream that was closed
    streams.guard()
    interrupts.guard()

    from pcbench.cli import main as command_line

    command_line()


if __name__ == "__main__":
    main()
