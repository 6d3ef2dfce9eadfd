"""launch=htcondor: its submit files are read by HTCondor's own parser; there is no pool to run them on."""

import pytest

htcondor2 = pytest.importorskip("htcondor2", reason="HTCondor's Python bindings are not installed")
classad2 = pytest.importorskip("classad2", reason="HTCondor's Python bindings are not installed")
