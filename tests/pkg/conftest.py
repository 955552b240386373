# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Lets the tests of packages import tests/lib."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
