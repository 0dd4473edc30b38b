"""`python -P -m skyfan.serving STAGE [--address HOST:PORT] [--announce]`: one server, as `--on local` starts it."""

import importlib
import sys

from skyfan.arrow_import import import_arrow_without_pandas

STAGES = ("partitioner", "executor", "aggregator", "rendezvous")


def main() -> None:
    """Serves until told to stop; imports what that one stage needs and nothing else."""
    if len(sys.argv) < 2 or sys.argv[1] not in STAGES:
        sys.stderr.write(f"skyfan: name a stage: python -P -m skyfan.serving {{{','.join(STAGES)}}}\n")
        sys.exit(2)
    import_arrow_without_pandas()
    stage = sys.argv[1]
    importlib.import_module(f"skyfan.serving.{stage}").main(sys.argv[2:])


if __name__ == "__main__":
    main()
