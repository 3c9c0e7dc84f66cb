"""python -m lvs_lab."""

import sys

from lvs_lab.cli import main

sys.exit(main())
