"""`python -m torch2mlx`: the command line."""

import sys

from torch2mlx.cli import main

sys.exit(main())
