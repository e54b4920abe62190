"""The laws of the contract as code: what every plugin of a kind has to hold, checked on small made-up data.

In a plugin's test file two lines make one test for each law:

    from isokl_registry.conformance import laws

    test_laws = laws("my_method")  # or laws("my_method[rank=2]")

`isokl plugins check my_method` runs the same laws and prints a table. Nothing here needs pytest but `laws`;
torch, numpy and safetensors are imported when a law is run.
"""

from isokl_registry.conformance.all_laws import LAWS
from isokl_registry.conformance.law import Broken, Law, Skipped, Verdict
from isokl_registry.conformance.subject import Subject, find
from isokl_registry.conformance.suite import laws

__all__ = ["LAWS", "Broken", "Law", "Skipped", "Subject", "Verdict", "find", "laws"]
