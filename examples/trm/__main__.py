"""`python -m examples.trm`."""

import sys

from examples.trm.cli import main

sys.exit(main())
