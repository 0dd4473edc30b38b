"""`python -m skyfan.cli`: the same as `skyfan`."""

from skyfan.__main__ import main

if __name__ == "__main__":
    main()
